"""The forms that a report is written in, each made from the report itself."""

from __future__ import annotations

from enum import StrEnum

from builder.forensics.markdown import markdown_text
from builder.forensics.page import page_text
from builder.forensics.report import Report
from builder.forensics.sarif import sarif_text


class Form(StrEnum):
    JSON = "json"
    SARIF = "sarif"
    MARKDOWN = "markdown"
    HTML = "html"


MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.SARIF: "application/sarif+json",
    Form.MARKDOWN: "text/markdown",
    Form.HTML: "text/html",
}


def rendered(report: Report, form: Form) -> str:
    if form is Form.SARIF:
        return sarif_text(report)
    if form is Form.MARKDOWN:
        return markdown_text(report)
    if form is Form.HTML:
        return page_text(report)
    return report.json_text()
