"""Names of fields in the sentences of an error, and values they offer: by quotes, by form, by where they stand.

The grammar of how people write that something is wrong: `the parameter 'x' is required`, `Missing: a, b`,
`Due date can't be blank`. What is no name in any request is told apart by its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from discovery.exchange import Json

POINTER = re.compile(r"\[?json-?pointer:\s*([^\]\s]+)\]?", re.I)
ASSIGNED = re.compile(r"\b([A-Za-z_]\w{0,40})\s?=\s?['\"]?[\w\-]+['\"]?(?:$|[\s,.)])")
"""Of an item `ID=7` was not found: the member that holds it."""
NOT_PARSED = re.compile(r"json|parse|malformed|well-formed|syntax|unexpected (?:end|token)", re.I)
IN_QUERY = re.compile(r"query ?string|query param|in query|url param", re.I)
_SPLIT = re.compile(
    r"\n+|(?<=[a-z)'\"`])[.;!] +(?=[A-Z'\"`])|(?:, )(?=[\w./\[\]]+ (?:must|should|is|are|can't|cannot) )"
)
_NAME = r"[A-Za-z_$@][\w$\-]*(?:(?:\.|\[|\]|/)[\w$\-\[\]]+)*(?:\[\d*\])?"
_NOUN = (
    r"(?:query |body |request |path |url |form |input )?(?:param(?:eter)?s?(?:\(s\))?|fields?(?:\(s\))?"
    r"|propert(?:y|ies)|attributes?|arguments?|columns?|keys?|inputs?|options?"
    r"|elements?|members?|feld|campo|champ|data|values?|variables?|parámetro|paramètre)"
)
_TECHNICAL = re.compile(rf"(?<![\w/@:.])({_NAME})(?![\w@/]|\.\w|://)")
_QUOTED = re.compile(r"(?<![A-Za-z0-9])(['\"`])((?:(?!\1).){1,120}?)\1(?![A-Za-z])|\[([\w.\-, ]{1,120})\]")
_KEYWORDS = (
    "missing|required|invalid|unknown|unexpected|unrecogni[sz]ed|unsupported|illegal|bad|empty|duplicate|provide|specify"
    "|supply|include|enter|choose|value for|valid|mandatory|without|is:"
)
_JOIN = r"(?:,|\band\b|\bor\b|&)"
_MARKED = rf"['\"`\[]*{_NAME}['\"`\]]*"
_AFTER = re.compile(
    rf"\b(?:{_KEYWORDS})(?!\w)(?:(?: the| an?| valid| required| names?| {_NOUN}| (?:are|is|were|not provided"
    rf"|missing|required|for)| at)(?!\w))*"
    rf"\s*:?\s*((?:{_MARKED}\s*{_JOIN}+\s*)*{_MARKED})",
    re.I,
)
VERB = (
    r"(?:is|are|was|were|weren't|wasn't|must|should|can ?not|can'?t|may|has|have|needs|requires?|does|do|not"
    r"|out of|contains?"
    r"|already|ist|sind|darf|muss|est|sont|n'est|ne|doit|es|son|debe|no|é|são|deve|não|too|missing"
    r"|invalid(?=\W*$))(?!\w)"
)
_BEFORE = re.compile(
    rf"(?:^|: |/)\W*(?:the |your |an? |this |one of |either |both |das |der |die |el |la |le |los "
    rf"|il |het |de |o |a "
    rf"|for )?(?:(?:field|parameter|property|attribute|argument|campo|champ|feld|parámetro"
    rf"|paramètre|veld|pole) )?((?:{_MARKED}\s*{_JOIN}+\s*)*(?:[A-Za-z]+ ){{0,3}}?{_MARKED})\s+"
    rf"(?:{_NOUN} )?(?:number .{{0,20}} )?{VERB}|^({_MARKED})(?=:\s)",
    re.I,
)
_ENDED = re.compile(rf"\s*(?:$|[.,;:!?)>\]'\"`]|in\b|and\b|or\b|{VERB})", re.I)
_NOUNED = re.compile(
    rf"\b({_NAME}) (?:parameter|field|property|attribute|argument|param)\b (?:is|must|should|cannot|can't|was|may)"
    rf"|(?<=field: )({_NAME})|\b(?:parameter|argument|property|attribute"
    rf"|param)s?\s*[:-] *['\"]?({_NAME})['\"]?\s*$"
    rf"|\b(?:contain|have|has|lacks?) (?:the |a )?(?:required )?(?:property|key|member|attribute) ['\"`]?({_NAME})"
    rf"|\b(?:on|for|of|in) (?:the )?(?:property|field|parameter|param|attribute|argument|column) ['\"`]?({_NAME})",
    re.I,
)
_POINTS = frozenset({"this", "that", "the", "each", "every", "following", "which", "one"})
_WORD = re.compile(_NAME)
_FOREIGN = re.compile(r"[\u0370-\uffef]")
"""Scripts in which a word of Latin letters is a name."""
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")
_NOTHING = re.compile(r"(?!)")  # what stands in brackets first is a mark, such as [ERROR]
VALUE = re.compile(r"\{[^{}]{0,300}\}")
_NO_NAMES_WORDS = (
    "this that it value values the a an is are and or not be must should field fields parameter parameters "
    "param params property properties request body query data json"
    " error errors invalid missing required input inputs name object type one there you your we no some all "
    "any resource validation record please format string integer number array boolean"
    " argument arguments attribute attributes element list item items message following url api bad unknown "
    "unable operation method user following at in of for to from with by on"
    " but because which only both either key column option feld das die der el la le campo champ"
)
NO_NAMES = frozenset(_NO_NAMES_WORDS.split())
_FIELDS_TOO_WORDS = "name type value data url format key code title status user operation message input"
FIELDS_TOO = frozenset(_FIELDS_TOO_WORDS.split())
"""Of those, the ones that fields are called by."""
CODED = re.compile(
    r"([A-Za-z]\w*?)[._]?(?:is[_.])?(?:required|missing|invalid|not[_.]valid|blank|empty|too[_.]\w+"
    r"|malformed|not[_.]supported)"
    r"|(?:invalid|missing|empty|bad|malformed|unsupported)[._]?([A-Za-z]\w*)"
)
"""A code made of a name and what is wrong with it."""
_NO_FIELDS_WORDS = (
    "request requestbody token apikey login authentication auth authorization credentials signature session scope"
    " permission grant client validation schema syntax argument arguments state is"
)
NO_FIELDS = frozenset(_NO_FIELDS_WORDS.split())


def plain_quotes(text: str) -> str:
    text = text.replace("->", ".") if "->" in text else text
    return text.translate(str.maketrans("“”„«»‘’´＂「」", "\"\"\"\"\"''''''")) if not text.isascii() else text


def sentences_of(text: str) -> list[str]:
    return [part.strip(" \t\r-*•") for part in _SPLIT.split(text[:2000]) if part.strip(" \t\r-*•")][:20]


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300] if "\n" not in text.strip()[:60] else text.strip()[:300]


def is_technical(name: str) -> bool:
    return bool(re.search(r"_|\w\.\w|\[|[a-z][A-Z]|\w-\w", name)) and len(name) > 2


def names_in(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield (name, whether its form shows it is one, whether it stands where names stand)."""
    positioned: dict[str, None] = {}
    for pattern in (_BEFORE, _AFTER):
        for match in pattern.finditer(text):
            group = match[1] or match[match.lastindex or 1] or ""
            if pattern is _AFTER and not _ENDED.match(text[match.end() :]) and not is_technical(group):
                continue
            for piece in re.split(_JOIN, group):
                words = _WORD.findall(piece)
                if words and len(words) <= 2:
                    positioned.setdefault(words[-1].strip("."), None)
    if _FOREIGN.search(text):
        for word in re.findall(rf"(?<![^\W\d_]){_NAME}(?![^\W\d_])", text):
            positioned.setdefault(word, None)
    quoted = dict.fromkeys(
        name for match in _NOUNED.finditer(text) if (name := match[match.lastindex or 1]).lower() not in _POINTS
    )
    for match in _QUOTED.finditer(text):
        for part in re.split(r",\s*", match[2] or match[3] or ""):
            named = _WORD if match[2] else _PLAIN_NAME if match.start() else _NOTHING
            if named.fullmatch(part) and not _OTHERS.search(text[: match.start()]):
                quoted[part] = None
    technical = [
        word
        for word in _TECHNICAL.findall(text)
        if is_technical(word) and not word.endswith(("Exception", "Error"))
    ]
    for name in dict.fromkeys((*quoted, *technical)):
        yield name, True, name in positioned or name in quoted
    if phrase := phrase_of(text):
        yield phrase, True, phrase.count("_") < 3 and not NO_NAMES & set(phrase.split("_")) - FIELDS_TOO
    for name in positioned:
        if name not in quoted and not is_technical(name):
            yield name, False, True


_OTHERS = re.compile(
    r"(?:relation|table|object|type|resource|index|schema|database|collection|cache|constraint|value|of) *$", re.I
)
"""What stands before a quoted word that names no field."""


def phrase_of(text: str) -> str:
    """Return the words before the verb as one name: `Validity years out of range` speaks of `validityYears`."""
    found = re.match(
        r"(?:the |your )?((?:[A-Za-z]+ ){1,4}?)(?:(?:value|field|parameter|property"
        r"|attribute) )?(?:is|are|must|should|can't|cannot|has|have|out of|may|does"
        r"|was|were|not)\b",
        text,
        re.I,
    )
    return "_".join(found[1].split()).lower() if found and " " in found[1].strip() else ""


def values_in(text: str) -> list[str]:
    """Values a sentence repeats: quoted ones first, then what stands alone at its beginning or after a colon."""
    quoted = [match[2] for match in _QUOTED.finditer(text) if match[2]]
    loose = re.findall(r"(?:^|\n|: |\()(-?\d+(?:\.\d+)?|[\w.+@\-]{3,80})(?= |$|\)|,|\.$)", text)
    words = [word for part in text.split() if len(word := part.strip(".,:;()")) > 2 and re.search(r"[_@\d]", word)]
    return list(dict.fromkeys([*quoted, *loose, *words]))[:30]


_LIST = re.compile(
    r"(?:one of(?: the following| these)?(?: values| options)?|allowed values(?: are)?|valid (?:values"
    r"|options|choices)(?: are)?|(?:must|should) be(?: either| equal to)?(?: one of(?: the)?)?|enum value set"
    r"|accepted values(?: are)?)\s*:?\s*"
    r"(.{1,300})",
    re.I | re.S,
)


def allowed_in(text: str) -> tuple[Json, ...]:
    """Return the values a sentence offers: quoted, in brackets, or between commas, bars and an `or`."""
    found = _LIST.search(text)
    if not found:
        return ()
    rest = found[1].partition(". ")[0].strip().rstrip(".")
    quoted = re.findall(r"'([^']{1,60})'|\"([^\"]{1,60})\"|`([^`]{1,60})`", rest)
    values = [next(part for part in parts if part) for parts in quoted]
    if len(values) == 1 and "," in values[0]:
        values = values[0].split(",")
    if not values:
        rest = rest.strip("[](){} ")
        if not re.search(r",|\||\bor\b", rest):
            return ()
        values = re.split(r"\s*(?:,\s*(?:or|and)\b|,|\||\bor\b|\band\b)\s*", rest)
    cleaned = [value.strip(" '\"`[]()") for value in values]
    if len(cleaned) < 2 or any(len(value) > 40 or value.count(" ") > 2 for value in cleaned):
        return ()
    return tuple(value for value in cleaned if value)[:100]
