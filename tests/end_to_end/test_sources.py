"""A recipe of a commit, filled in by its request: the record says so, and a rebuild needs neither."""

from __future__ import annotations

import json

from tests.end_to_end.world import Goldsmith, Released
from tests.unit.git_server import GitServer
from tests.unit.git_server import git as run_git

RECIPE = """\
apiVersion: goldsmith/v1
kind: Image
metadata: {name: sourced, version: "${parameters.version}"}
parameters:
  version: {default: "1.0", pattern: "[0-9.]+"}
spec:
  base: {recipe: debian}
  files: [{path: /srv/greeting, source: greeting}]
  environment: {VERSION: "${parameters.version}"}
  tests:
    - command: [sh, -c, 'test "$VERSION" = "$1" && grep -q hello /srv/greeting', sh, "${parameters.version}"]
  publish: {repository: test/sourced, tags: ["${parameters.version}"]}
"""


def test_is_released_recorded_and_rebuilt(goldsmith: Goldsmith, web: Released, git: GitServer) -> None:
    where = git.repository("acme/images", {"images/sourced.yaml": RECIPE, "images/greeting": "hello\n"})
    commit, url = run_git(where, "rev-parse", "HEAD"), f"{git.url}/acme/images"
    done = goldsmith.run("build", "--repository", url, "--ref", "main", "--path", "images/sourced.yaml",
                         "-p", "version=2.0", "--json")  # fmt: skip
    build = json.loads(done.stdout)
    source = {"repository": url, "ref": "main", "commit": commit, "path": "images/sourced.yaml"}
    assert (build["state"], build["source"], build["parameters"]) == ("released", source, {"version": "2.0"})
    assert build["result"]["tags"] == ["2.0"]
    digest = build["result"]["digest"]

    told = json.loads(goldsmith.run("provenance", digest, "--statement").stdout)["predicate"]["buildDefinition"]
    assert told["externalParameters"]["source"] == source
    assert told["externalParameters"]["parameters"] == {"version": "2.0"}
    named = next(one for one in told["resolvedDependencies"] if one.get("name") == "source")
    assert named == {"uri": f"git+{url}@main", "digest": {"gitCommit": commit}, "name": "source"}
    record = goldsmith.api.get(f"/v1/images/{digest}/record").json()
    assert (record["source"], record["parameters"]) == (source, {"version": "2.0"})
    assert goldsmith.run("verify", digest).returncode == 0
    again = goldsmith.rebuild(digest)
    assert again["state"] == "reproduced", again["problem"]
