"""Settings come from GOLDSMITH_ variables alone; a wrong one is named, and no value of any is ever shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from builder.errors import SettingsInvalid
from builder.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.upper().startswith("GOLDSMITH_"):
            monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"GOLDSMITH_{name}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert "settings.md" in (caught.value.hint or "") or "operator.md" in (caught.value.hint or "")
    return caught.value.detail


def test_without_any_there_are_defaults_that_suit_a_laptop() -> None:
    found = load_settings()
    assert found.database_url.startswith("sqlite:///")
    assert found.registry == "127.0.0.1:5000"
    assert found.insecure_registries == ()


def test_each_field_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDSMITH_REGISTRY", "registry.example:5000")
    monkeypatch.setenv("GOLDSMITH_BUILD_CPUS", "1.5")
    monkeypatch.setenv("GOLDSMITH_INSECURE_REGISTRIES", " a:1, b:2 ,,")
    monkeypatch.setenv("GOLDSMITH_STATE_DIRECTORY", "/srv/x")
    found = load_settings()
    assert (found.registry, found.build_cpus) == ("registry.example:5000", 1.5)
    assert found.insecure_registries == ("a:1", "b:2")
    assert found.state_directory == Path("/srv/x")


def test_an_empty_one_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMAGE_BYTES", "DEBIAN_MIRROR", "SIGNER_IDENTITY"):
        monkeypatch.setenv(f"GOLDSMITH_{name}", "")
    assert load_settings() == Settings()
    assert load_settings().debian_mirror is None


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "x")
    monkeypatch.setenv("GOLDSMITH_URL", "the client's")
    assert load_settings().registry == "127.0.0.1:5000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUILD_MEMORY_BYTES", "hunter2"),
        ("BUILD_MEMORY_BYTES", "1"),
        ("BUILD_CPUS", "0"),
        ("BUILD_CPUS", "nan"),
        ("BUILD_CPUS", "inf"),
        ("BUILD_PROCESSES", "-5"),
        ("BUILD_SECONDS", "1e9x"),
        ("BUILD_LOG_BYTES", "12"),
        ("IMAGE_BYTES", "1"),
        ("NETWORK_STEPS", "perhaps"),
        ("CACHE_BYTES", "-1"),
        ("ENGINE_CACHE_BYTES", "10 GiB"),
        ("INDEX_MINUTES", "-1"),
        ("TRIVY_DATABASE_HOURS", "0"),
        ("LEASE_SECONDS", "0"),
        ("MAXIMUM_ATTEMPTS", "1.5"),
        ("SIGNER_SECONDS", "true"),
    ],
)
def test_a_wrong_one_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    detail = refused(monkeypatch, **{name: value})
    assert f"GOLDSMITH_{name}: " in detail
    assert "hunter2" not in detail


def test_all_wrong_ones_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    detail = refused(monkeypatch, BUILD_CPUS="x", LEASE_SECONDS="y")
    assert "GOLDSMITH_BUILD_CPUS" in detail
    assert "GOLDSMITH_LEASE_SECONDS" in detail


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"IDENTITY_CLIENT_ID": "hunter2"}, "IDENTITY_TOKEN_URL, IDENTITY_CLIENT_ID"),
        ({"IDENTITY_TOKEN_URL": "https://a", "IDENTITY_CLIENT_ID": "hunter2"}, "IDENTITY_CLIENT_SECRET_FILE"),
        ({"REGISTRY_USERNAME": "hunter2"}, "REGISTRY_PASSWORD_FILE"),
        ({"REGISTRY_PASSWORD_FILE": "/hunter2"}, "REGISTRY_USERNAME"),
        ({"SIGNER_IDENTITY": "hunter2"}, "SIGNER_ISSUER"),
    ],
)
def test_what_goes_together_is_asked_for_together(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    detail = refused(monkeypatch, **variables)
    assert named in detail
    assert "hunter2" not in detail


def test_a_limit_of_an_older_version_is_not_gone_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, BUILDS_PER_CALLER="3") == "GOLDSMITH_BUILDS_PER_CALLER is GOLDSMITH_BUILDS_PER_TEAM now"


@pytest.mark.parametrize("name", ["goldsmith_builds_per_caller", "Goldsmith_Builds_Per_Caller"])
def test_nor_is_one_in_another_case_or_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    told = "GOLDSMITH_BUILDS_PER_CALLER is GOLDSMITH_BUILDS_PER_TEAM now"
    with monkeypatch.context() as patch:
        patch.setenv(name, "3")
        assert refused(patch) == told
    (tmp_path / name).write_text("3")
    assert refused(monkeypatch, SECRETS_DIRECTORY=str(tmp_path)) == told


def test_the_brokers_password_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDSMITH_REDIS_URL", "redis://:hunter2@redis.example/0")
    found = load_settings()
    assert "hunter2" not in repr(found) + str(found) + found.model_dump_json()
    assert found.redis_url.get_secret_value() == "redis://:hunter2@redis.example/0"


def test_the_databases_password_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDSMITH_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(load_settings()) + str(load_settings())
    monkeypatch.setenv("GOLDSMITH_SIGNER_IDENTITY", "x")
    try:
        load_settings()
    except SettingsInvalid as error:
        shown = "".join(traceback.format_exception(error))
    assert "input_value" not in shown


def test_they_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        load_settings().registry = "x"  # type: ignore[misc]


def test_a_traceback_of_a_fault_names_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDSMITH_BUILD_SECONDS", "ten")
    monkeypatch.setenv("GOLDSMITH_REDIS_URL", "redis://:hunter2@redis.example/0")
    try:
        load_settings()
    except SettingsInvalid as error:
        shown = "".join(traceback.format_exception(error))
    assert "hunter2" not in shown


def test_every_one_says_what_it_is_for() -> None:
    obvious = {"registry_username", "identity_client_id", "identity_client_secret_file"}
    assert {name for name, field in Settings.model_fields.items() if not field.description} <= obvious


def test_secrets_are_files_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "goldsmith_redis_url").write_text("redis://:k7-canary@127.0.0.1:6379/0\n")
    (tmp_path / "goldsmith_registry").write_text("from-a-file.example")
    monkeypatch.setenv("GOLDSMITH_SECRETS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("GOLDSMITH_REGISTRY", "from-the-environment.example")
    found = load_settings()
    assert found.redis_url.get_secret_value() == "redis://:k7-canary@127.0.0.1:6379/0"
    assert found.registry == "from-the-environment.example"


def test_a_secrets_directory_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "there is no directory" in refused(monkeypatch, SECRETS_DIRECTORY=str(tmp_path / "none"))
