"""`gimbal config check|show|schema`: is the configuration right, what holds, and who said so."""

from __future__ import annotations

import json

import typer

from gateway.commands.options import AsJson, Config, Data, Store, Upstreams, read_settings
from gateway.commands.render import put, put_json, put_table, say
from gateway.problems import ConfigError, Refused

app = typer.Typer(
    help="Check the configuration; show each value with where it came from; print its JSON Schema.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def check(
    upstream: Upstreams = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Say what is wrong (exit 2), what is unwise, or that all is well. Secrets are looked up, never shown."""
    try:
        settings = read_settings(config, data, store, upstreams=upstream, secrets=True)
    except (ConfigError, Refused) as error:
        if as_json:
            put_json({"ok": False, "problems": str(error).splitlines(), "warnings": []})
            raise typer.Exit(error.exit_code) from None
        raise
    if as_json:
        put_json({"ok": True, "problems": [], "warnings": list(settings.warnings)})
        return
    for warning in settings.warnings:
        say(f"warning: {warning}")
    where = settings.file or "no file, so defaults and environment"
    put(f"{where}: fine, {len(settings.upstreams)} upstream{'s' * (len(settings.upstreams) != 1)}")


@app.command()
def show(
    upstream: Upstreams = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show each value with where it came from: a flag, a variable, a line of the file, or the default."""
    settings = read_settings(config, data, store, upstreams=upstream)
    if as_json:
        for setting in settings.shown:
            put_json({"name": setting.name, "value": setting.value, "origin": str(setting.origin)})
        return
    put_table(
        ["SETTING", "VALUE", "FROM"],
        [[s.name, json.dumps(s.value, ensure_ascii=False), str(s.origin)] for s in settings.shown],
    )


@app.command()
def schema(as_json: AsJson = False) -> None:
    """Print the JSON Schema of gimbal.toml, for editors (it is JSON either way)."""
    put(schema_text().rstrip())


def schema_text() -> str:
    """Return the text of `gateway/config.schema.json`, made from `gateway.form`."""
    from gateway.form import File

    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **File.model_json_schema()}
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"
