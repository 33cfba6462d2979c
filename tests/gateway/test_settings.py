"""Settings: what is read from where, what beats what, and how what is wrong is told."""

import json
import math
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from gateway.commands.config import schema_text
from gateway.form import File, bare, octets, seconds
from gateway.problems import ConfigError, Refused
from gateway.settings import load, parse_listen
from gateway.settings_told import without_password
from policies.rules import Idempotency, Lookup, Rate

INTERFACE = """
listen = "127.0.0.1:8470"

[store]
url = "redis://localhost:6379/0"

[upstreams.billing]
base_url = "https://billing.example.com/v2/"
headers = { Authorization = "env:BILLING_TOKEN" }      # injected, never logged, never returned
timeout = 30
wait = 30
idempotency = { carrier = "header", name = "Idempotency-Key", window = "24h", stores = "definite" }
rate = { limit = 100, per = "1m", burst = 20 }

[[upstreams.billing.operations]]
match = "POST /charges"
lookup = { get = "/charges?ref={body.ref}", found = "/data/0", absent_after = "60s" }
"""


@pytest.fixture(autouse=True)
def an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read(text="", environ=None, flags=None, **how):
    Path("gimbal.toml").write_text(text)
    return load(None, flags, {"HOME": str(Path.cwd()), **(environ or {})}, **how)


def complaint(text="", environ=None, **how):
    with pytest.raises(ConfigError) as caught:
        read(text, environ, **how)
    return str(caught.value)


def test_nothing_at_all_is_a_configuration():
    settings = load(environ={"HOME": "/home/me"})

    assert settings.listen == "127.0.0.1:8470"
    assert settings.store is None
    assert settings.upstreams == {}
    assert settings.file is None
    assert settings.data.is_absolute()


def test_the_file_of_the_interface_becomes_rules():
    billing = read(INTERFACE, {"BILLING_TOKEN": "t0p"}).upstreams["billing"]

    assert billing.base_url == "https://billing.example.com/v2"
    assert billing.headers == (("Authorization", "t0p"),)
    assert billing.idempotency == Idempotency("header", "Idempotency-Key", 86400.0)
    assert billing.rate == Rate(100, 60.0, 20)
    assert billing.operations[0].lookup == Lookup("/charges?ref={body.ref}", "/data/0", 60.0)


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default():
    text = 'workers = 2\ndata = "/from/file"\n[limits]\nbody = 1\n'
    environ = {"GIMBAL__WORKERS": "3", "GIMBAL__DATA": "/from/environment"}

    settings = read(text, environ, {("workers",): ("--workers", 4)})

    assert settings.workers == 4
    assert settings.data == Path("/from/environment")
    assert settings.limits.body == 1
    assert settings.limits.headers == 65536


def test_the_console_may_be_told_further_names():
    told = read('listen = "[::1]:0"\nhosts = ["Gimbal", "gimbal.internal"]')
    by_variable = read(environ={"GIMBAL__HOSTS": '["gimbal"]'})

    assert told.hosts == {"gimbal", "gimbal.internal", "::1"}
    assert by_variable.hosts == {"gimbal", "127.0.0.1"}


@pytest.mark.parametrize("host", ["http://gimbal", "gimbal:8470", "", "a b", "*"])
def test_a_host_is_a_name_alone(host):
    with pytest.raises(ConfigError, match=r"hosts.*without scheme and port"):
        read(f'hosts = ["{host}"]')


def test_plain_variables_stand_for_their_settings():
    settings = read(environ={"GIMBAL_STORE": "redis://there", "GIMBAL_DATA": "/d", "GIMBAL_URL": "x"})

    assert (settings.store, settings.data, settings.warnings) == ("redis://there", Path("/d"), ())


def test_gimbal_config_names_the_file_and_a_flag_beats_it():
    Path("a.toml").write_text("workers = 2")
    Path("b.toml").write_text("workers = 3")

    assert load(environ={"GIMBAL_CONFIG": "a.toml"}).workers == 2
    assert load(Path("b.toml"), environ={"GIMBAL_CONFIG": "a.toml"}).workers == 3


def test_variables_reach_into_upstreams_and_find_names_by_likeness():
    environ = {
        "GIMBAL__UPSTREAMS__MY_API__TIMEOUT": "2m",
        "GIMBAL__UPSTREAMS__MY_API__HEADERS__X_API_KEY": "env:SECRET",
        "GIMBAL__UPSTREAMS__MY_API__RATE": '{"limit": 5, "per": "1s"}',
        "GIMBAL__UPSTREAMS__MY_API__RATE__BURST": "3",
        "GIMBAL__UPSTREAMS__MY_API__OPERATIONS": '[{"match": "POST /x", "safe": true}]',
        "GIMBAL__UPSTREAMS__OTHER__BASE_URL": "http://127.0.0.1:1",
        "SECRET": "s",
    }

    settings = read(
        '[upstreams.my-api]\nbase_url = "https://a"\n[upstreams.my-api.headers]\nX-Api-Key = "env:NO"', environ
    )

    mine = settings.upstreams["my-api"]
    assert (mine.timeout, mine.headers, mine.rate) == (120.0, (("X-Api-Key", "s"),), Rate(5, 1.0, 3))
    assert mine.operations[0].safe is True
    assert settings.upstreams["other"].base_url == "http://127.0.0.1:1"


def test_unknown_keys_are_errors_in_the_file_with_line_and_likely_meaning():
    text = (
        'wrokers = 2\n\n[upstreams.billing]\nbase_url = "https://b"\n'
        "timout = 3\nrate = { limit = 1, per = 1, brust = 2 }\n"
    )

    assert complaint(text).splitlines() == [
        "gimbal.toml:1: wrokers: unknown key; did you mean workers?",
        "gimbal.toml:5: upstreams.billing.timout: unknown key; did you mean timeout?",
        "gimbal.toml:6: upstreams.billing.rate.brust: unknown key; did you mean burst?",
    ]


def test_unknown_keys_are_errors_in_the_environment():
    assert complaint(environ={"GIMBAL__STOER__URL": "redis://x"}) == (
        "GIMBAL__STOER__URL: stoer: unknown key; did you mean store?"
    )
    assert complaint(environ={"GIMBAL__": "x"}).startswith("GIMBAL__: ")


def test_an_unknown_key_like_no_other_is_told_which_there_are():
    assert complaint("[store]\nzzzz = 1") == "gimbal.toml:2: store.zzzz: unknown key; known here: url, fsync, wait"


def test_lines_are_found_in_tables_of_tables():
    text = (
        '[upstreams.b]\nbase_url = "https://b"\n'
        '[[upstreams.b.operations]]\nmatch = "GET /a"\n'
        '[[upstreams.b.operations]]\nmatch = "GET /b"\n'
        '[upstreams.b.operations.lookup]\nget = "/x"\nfound = "nowhere"\n'
        "[upstreams.b.idempotency]\nwindow = true\n"
    )

    assert [line.partition(": should")[0] for line in complaint(text).splitlines()] == [
        "gimbal.toml:9: upstreams.b.operations[1].lookup.found",
        "gimbal.toml:11: upstreams.b.idempotency.window",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('workers = "many"', "gimbal.toml:1: workers: should be a valid integer"),
        ("workers = 0", "gimbal.toml:1: workers: should be greater than or equal to 1, not 0"),
        ("upstreams = 3", "gimbal.toml:1: upstreams: should be a valid dictionary"),
        ('[upstreams.b]\nbase_url = "ftp://b"', "gimbal.toml:2: upstreams.b.base_url: should be a URL"),
        ('[upstreams.b]\nbase_url = "https://"', "gimbal.toml:2: upstreams.b.base_url: should be a URL"),
        ('[upstreams.b]\nbase_url = "https://b:99999"', "gimbal.toml:2: upstreams.b.base_url: should be a URL"),
        ('[upstreams.b]\nbase_url = "https://b?x=1"', "gimbal.toml:2: upstreams.b.base_url: should hold no query"),
        (
            '[upstreams.b]\nbase_url = "https://b\\nx"',
            "gimbal.toml:2: upstreams.b.base_url: should hold no spaces",
        ),
        ("[upstreams.b]\ntimeout = 1", "gimbal.toml:1: upstreams.b.base_url: is required"),
        ('[upstreams.-]\nbase_url = "https://b"', "gimbal.toml:1: upstreams.-: an upstream's name"),
        ('[upstreams.A]\nbase_url = "https://b"', "gimbal.toml:1: upstreams.A: an upstream's name"),
        (
            '[upstreams.b]\nbase_url = "https://b"\nverify = "/no/such.pem"',
            "gimbal.toml:3: upstreams.b.verify: there is no",
        ),
        ('[upstreams.b]\nbase_url = "https://b"\nheaders = {"a b" = "c"}', "gimbal.toml:3: upstreams.b.headers"),
        ('listen = "nowhere at all"', "gimbal.toml:1: listen: should be HOST:PORT"),
        ('listen = "127.0.0.1:99999"', "gimbal.toml:1: listen: should be HOST:PORT"),
        ('[store]\nurl = "mysql://x"', "gimbal.toml:2: store.url: should begin with redis://"),
        ("listen = \nworkers = 1", "gimbal.toml:1: is not TOML: "),
    ],
)
def test_a_wrong_value_is_told_with_its_place(text, said):
    assert complaint(text).startswith(said)


def test_a_file_that_cannot_be_read_is_told_as_such():
    for path, said in (("none.toml", "no such file"), (".", "is a directory")):
        with pytest.raises(ConfigError, match=said):
            load(Path(path), environ={})
    Path("latin.toml").write_bytes(b'data = "\xe9"')
    with pytest.raises(ConfigError, match="UTF-8"):
        load(Path("latin.toml"), environ={})


def test_json_in_a_variable_that_is_none_is_told_as_such():
    assert "GIMBAL__UPSTREAMS: should be JSON" in complaint(environ={"GIMBAL__UPSTREAMS": "billing=https://b"})


# Secrets


def test_a_secret_comes_from_the_environment_or_a_file_also_after_a_scheme():
    Path("token").write_text("from-file\n")
    text = (
        '[upstreams.b]\nbase_url = "https://b"\n[upstreams.b.headers]\n'
        'A = "env:TOKEN"\nAuthorization = "Bearer env:TOKEN"\nC = "file:token"\nD = "plain"\n'
    )

    headers = dict(read(text, {"TOKEN": " from-env "}).upstreams["b"].headers)

    assert headers == {"A": "from-env", "Authorization": "Bearer from-env", "C": "from-file", "D": "plain"}


def test_a_missing_secret_is_told_by_the_name_it_should_have():
    assert complaint(INTERFACE) == (
        "gimbal.toml:9: upstreams.billing.headers.Authorization: "
        "environment variable BILLING_TOKEN is not set; export it, or name another"
    )
    assert "cannot read no-such-file" in complaint('[callers]\nme = "file:no-such-file"')


def test_commands_that_send_nothing_need_no_secret():
    assert read(INTERFACE, secrets=False).upstreams["billing"].headers == ()


def test_no_secret_is_in_any_message_or_repr():
    text = (
        '[store]\nurl = "redis://me:s3cr3t@localhost"\n[callers]\nops = "s3cr3t-token"\n'
        '[upstreams.b]\nbase_url = "https://b"\nheaders = { Authorization = "s3cr3t", X-Other = "env:S" }\n'
    )
    settings = read(text, {"S": "s3cr3t", "GIMBAL_KEY": "s3cr3t"})
    bad = [
        complaint('[upstreams.b]\nbase_url = "https://me:s3cr3t@b"'),
        complaint('[store]\nurl = "http://me:s3cr3t@b"'),
        complaint('[callers]\nme = "s3cr3t\\n"'),
        complaint('[upstreams.b]\nbase_url = "https://b"\nheaders = { X = "env:S" }', {"S": "s3cr3t\n\x00s3cr3t"}),
        complaint('[upstreams.b]\nbase_url = "https://b"\nheaders = { X = ["s3cr3t"] }'),
    ]

    assert settings.callers == {"ops": "s3cr3t-token"}
    for said in (repr(settings), repr(settings.shown), repr(settings.warnings), *bad):
        assert "s3cr3t" not in said


def test_a_literal_where_a_secret_belongs_is_warned_of():
    text = (
        '[callers]\nops = "literal-token"\n'
        '[upstreams.b]\nbase_url = "https://b"\nheaders = { X-Api-Key = "abc", Accept = "text/plain" }\n'
    )

    warnings = read(text).warnings

    assert [warning.split(": ")[:2] for warning in warnings] == [
        ["gimbal.toml:2", "callers.ops"],
        ["gimbal.toml:5", "upstreams.b.headers.X-Api-Key"],
    ]
    assert all("env:" in warning for warning in warnings)


# Safety


def test_listening_for_others_without_callers_tokens_is_refused():
    with pytest.raises(Refused, match=r"\[callers\]"):
        read('listen = "0.0.0.0:8470"')
    with pytest.raises(Refused):
        read('listen = "example.com:80"')


def test_listening_for_others_with_callers_tokens_is_fine():
    settings = read('listen = "[::]:80"\n[callers]\nops = "env:OPS"', {"OPS": "0123456789"})

    assert (settings.host, settings.port, settings.callers) == ("::", 80, {"ops": "0123456789"})
    assert settings.listen == "[::]:80"


def test_plain_http_to_another_machine_and_unchecked_certificates_are_warned_of():
    text = '[upstreams.b]\nbase_url = "http://b.example"\nverify = false\n[upstreams.c]\nbase_url = "http://127.0.0.1:1"'

    assert [warning.split(": ")[1] for warning in read(text).warnings] == [
        "upstreams.b.base_url",
        "upstreams.b.verify",
    ]


def test_a_stray_plain_variable_is_warned_of():
    assert read(environ={"GIMBAL_STOER": "x"}).warnings == (
        "GIMBAL_STOER: is no variable of Gimbal's; did you mean GIMBAL_STORE?",
    )
    assert read(environ={"GIMBAL_LISTEN": "x"}).warnings == (
        "GIMBAL_LISTEN: is no variable of Gimbal's; did you mean GIMBAL__LISTEN?",
    )


# Showing


def test_each_value_says_where_it_came_from():
    flags = {("upstreams", "c", "base_url"): ("--upstream c", "https://c")}
    shown = {s.name: str(s.origin) for s in read(INTERFACE, {"GIMBAL__WORKERS": "2"}, flags, secrets=False).shown}

    assert shown["listen"] == "gimbal.toml:2"
    assert shown["workers"] == "GIMBAL__WORKERS"
    assert shown["limits.body"] == "default"
    assert shown["upstreams.billing.rate.burst"] == "gimbal.toml:13"
    assert shown["upstreams.billing.attempts"] == "default"
    assert shown["upstreams.c.base_url"] == "--upstream c"
    assert shown["upstreams.billing.operations[0].lookup.found"] == "gimbal.toml:17"


def test_references_to_secrets_are_shown_and_secrets_are_not():
    text = '[store]\nurl = "redis://me:pw@h"\n[callers]\na = "env:T"\nb = "literal-token"\n'
    shown = {s.name: s.value for s in read(text, {"T": "0123456789"}).shown}

    assert shown["store.url"] == "redis://me:***@h"
    assert shown["callers.a"] == "env:T"
    assert shown["callers.b"] == "***"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://me:p@ss:w/rd@h:1/0", "redis://me:***@h:1/0"),
        ("redis://:pw@h", "redis://:***@h"),
        ("unix:///s.sock?db=1&password=pw&x=1", "unix:///s.sock?db=1&password=***&x=1"),
        ("redis://h:6379", "redis://h:6379"),
    ],
)
def test_a_store_is_shown_without_its_password(url, said):
    assert without_password(url) == said


# Values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (30, 30),
        (0.5, 0.5),
        ("30", 30),
        ("250ms", 0.25),
        ("60s", 60),
        ("1m", 60),
        ("24h", 86400),
        ("1h30m", 5400),
        ("7d", 604800),
    ],
)
def test_durations_are_seconds_or_text(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", [True, -1, math.nan, math.inf, "", "soon", "1x", "m", "-5s", [1], None])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [(1, 1), ("64 KiB", 65536), ("10MB", 10**7), ("5", 5), ("1 GiB", 2**30)]
)
def test_sizes_are_bytes_or_text(text, value):
    assert octets(text) == value


@pytest.mark.parametrize("text", [True, -1, 1.5, "", "big", "10 XB", "kib"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="size"):
        octets(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8470", ("127.0.0.1", 8470)),
        ("127.0.0.1", ("127.0.0.1", 8470)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 8470)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_listen_addresses(text, value):
    assert parse_listen(text) == value


# The house


def test_the_shipped_schema_is_current():
    shipped = Path(__file__).parents[2] / "gateway" / "config.schema.json"

    assert shipped.read_text() == schema_text(), "run: gimbal config schema > gateway/config.schema.json"


def test_the_schema_agrees_with_us_on_the_file_of_the_interface():
    import tomllib

    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(schema_text()))

    assert not list(validator.iter_errors(tomllib.loads(INTERFACE)))
    assert list(validator.iter_errors(tomllib.loads("wrokers = 1")))
    assert list(validator.iter_errors(tomllib.loads('[retention]\nidle = "soon"')))


def test_every_setting_is_documented_and_says_what_it_does():
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()

    for name in names_of(File):
        assert f"`{name}`" in page, f"docs/configuration.md does not tell of {name}"


def names_of(annotation, before=""):
    annotation = bare(annotation)
    if get_origin(annotation) is dict:
        yield from names_of(get_args(annotation)[-1], f"{before}NAME.")
    elif get_origin(annotation) is list:
        yield from names_of(get_args(annotation)[-1], f"{before[:-1]}[].")
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            assert field.description, f"{before}{name} says nothing of itself"
            yield before + name
            yield from names_of(field.annotation, f"{before}{name}.")
