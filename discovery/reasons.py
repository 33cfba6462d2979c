"""Why a field was not accepted, from codes and sentences. Words of several languages; codes in any case style."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache


class Reason(StrEnum):
    """Why a field was not accepted."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    TYPE = "type"
    FORMAT = "format"
    ENUM = "enum"
    RANGE = "range"
    LENGTH = "length"
    UNIQUE = "unique"
    OTHER = "other"


TYPES = (
    r"strings?|integers?|ints?|numbers?|numeric|float|decimals?|bool(?:ean)?s?|arrays?|lists?|objects?"
    r"|dict(?:ionary|ionaries)?"
    r"|mapping|maps?|hash|null|date(?:time)? object|listvalue|struct|text|zahl|nombre|número|entero"
)

_UNLIKE = r"(?:not|isn'?t|must be|should be|has to be|expected|expects|is no|needs to be|muss)"

# In order: the first that is found wins, as a sentence about a length also speaks of a limit.
_TEXT: tuple[tuple[Reason, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern, re.I))
    for reason, pattern in (
        (
            Reason.UNIQUE,
            r"already (?:been )?(?:taken|exist\w*|in use|used|registered)|duplicate|must be unique|not unique"
            r"|already .{0,20}(?:member|contributor)|已存在|重复|existe d[ée]j[àa]|ya existe|já existe"
            r"|bereits (?:vorhanden|vergeben)",
        ),
        (
            Reason.UNKNOWN,
            r"unknown (?:field|param|prop|key|arg|attr|column|input|element)|unexpected (?:field|param|prop"
            r"|key|arg|attr|element|input)"
            r"|unrecogni[sz]ed|additional propert|extra (?:input|field|propert|key)s?|no such (?:column|field"
            r"|property|param)"
            r"|(?<!required )(?:field|param\w*|property|attribute|column|argument"
            r"|key) .{0,60}(?:not (?:found|exist"
            r"|permitted|recogni|known|defined|allowed)|does ?n.t exist|cannot be set|is unknown)"
            r"|could not find the .{1,60} (?:column|field)|not a (?:known|recogni[sz]ed) (?:field|param|prop)"
            r"|^['\"][\w.\[\]]+['\"] is not allowed$|is (?:un)?known field"
            r"|unbekannt\w* feld|champ inconnu|campo desconocido|未知(?:参数|字段)",
        ),
        (
            Reason.LENGTH,
            r"\bcharacters?\b(?! set)(?!.{0,20}printable)|too (?:long|short)|\blength\b|longer than"
            r"|shorter than|(?:min|max)imum.{0,20}(?:char|item|element)"
            r"|zeichen lang|zu (?:lang|kurz)|trop (?:long|court)|demasiado (?:larg|cort)|太长|长度|文字",
        ),
        (
            Reason.MISSING,
            r"\brequired?\b(?!.{0,20}format)|\brequires\b|missing|(?:can ?no|can'|must no|may no"
            r"|should no)t be (?:left )?(?:blank|null|empty|undefined|none)|mandatory"
            r"|must be (?:present|provided|specified|supplied|given|set|included|filled)|must (?:provide"
            r"|specify|supply|include|give|have required|be in)"
            r"|must either (?:provide|specify)|\bis (?:blank|empty|null|undefined|not set|not present)\b"
            r"|not (?:be(?:en)? )?(?:provided|specified|supplied|present|given|null|blank)"
            r"|(?:were|was)(?:n't| not) (?:supplied|provided|specified|given|sent|set)|please (?:provide"
            r"|specify|enter|supply|fill|select)|need something here"
            r"|not-null constraint|no .{1,30} (?:was |were )?(?:provided|given|specified|supplied)|(?:was"
            r"|were|got|received) (?:undefined|null|nothing)"
            r"|required (?:key|property|field) .{0,60}not found|^no \w+(?: or \w+)* *$|\bwas null\b"
            r"|指定されていません|入力されていません|未指定|不可为空|obrigat|必要です|обязател"
            r"|не указан|wymagan|verplicht"
            r"|måste anges|krävs|saknas|ikke være (?:null|tom)|påkrev|mangler|zorunlu|boş olamaz"
            r"|povinn|obbligatori|em branco"
            r"|must be defined|must (?:select|enter|choose)|(?:should|must) (?:contain|have) (?:a "
            r"|the )?(?:required )?"
            r"(?:property|field|key)|erforderlich|pflichtfeld|fehlt|darf nicht leer|obligatoi?r"
            r"|obligatóri|requis\b|requise"
            r"|requerid|falta|manquant|必須|必填|必须|不能为空|缺少|入力して",
        ),
        (
            Reason.ENUM,
            r"\bone of\b|\beither [`\'\"]?\w+[`\'\"]? or\b|allowed values|valid (?:values|options|choices)"
            r"|(?:option"
            r"|choice) .{0,12}(?:is )?not valid|not (?:a |an )?(?:valid |allowed )?(?:option|choice)"
            r"|\benum\b|not (?:included )?in (?:the )?(?:list|set|enum|value ?set)|unknown variant"
            r"|not one of the values|must be '[^']*'(?:,| or)"
            r"|should be '[^']*' or|accepted values|possible values|invalid option|unsupported value"
            r"|is not a valid \w+_\w+|invalid (?:event|type(?!: )|choice|enum)\b|^unsupported$|valores permitidos"
            r"|erlaubte werte",
        ),
        (
            Reason.RANGE,
            r"(?:less|greater|smaller|larger|lower|higher|more|fewer|bigger) than|at (?:least|most)|minimum"
            r"|maximum|\bbetween\b|out of (?:the )?range|\brange\b|exceed"
            r"|too (?:large|small|high|low|big|many|few|much)|must be (?:a )?(?:non-)?(?:positive|negative)"
            r"|limited to|(?<![=-])[<>]=? ?\d|not be (?:negative|zero|lower|less)|\blower than|below the"
            r"|above the"
            r"|größer als|kleiner als|mindestens|höchstens|mayor que|menor que|supérieur|inférieur|超出范围",
        ),
        (
            Reason.TYPE,
            rf"{_UNLIKE} (?:of )?(?:the )?(?:type |a |an |a valid |valid "
            rf"|equal to )*(?:{TYPES})\b(?! (?:in|of|with|matching)\b)"
            rf"|(?:{TYPES}) (?:is )?expected|invalid type|wrong type|\btype mismatch|of type"
            r"|unable to parse .{0,30} as an?|cannot (?:be )?(?:deseriali[sz]e|convert|cast|parse)"
            r"|incompatible types?|must be of type|invalid value at .{0,80}\((?:type\.|TYPE_)"
            r"|failed to parse field|found instead|type check|invalid (?:integer|float|boolean|bool"
            r"|int|numeric|string)\b|invalid type: |cannot represent"
            r"|could not be converted"
            r"|cannot unmarshal|cast to \w+ failed|expected type: |^expected \w+, (?:received|got"
            r"|found)|for input string",
        ),
        (
            Reason.OTHER,
            r"no such|not found|does ?n.t exist|do(?:es)? not exist|could not (?:be )?f(?:ou|i)nd"
            r"|not a valid (?:contact|user|customer|account|object|id\b)|^invalid (?!(?:e-?mail"
            r"|ur[il]|uuid|date|datetime|ip|phone|format)\b)[\w.\-]+[.!]?$|not found"
            r"|(?:^|[-:] )invalid (?:param\w*|field|attribute|property|argument|amount):? ?[\w.]*$",
        ),
        (
            Reason.FORMAT,
            r"format|pattern|regex|neither a valid|string of digits|não é válid|nieprawid|geçersiz"
            r"|ongeldig|ogiltig|ugyldig|non valid|weak\b|regular expression|malformed|not (?:a "
            r"|an )?(?:\w+ ){0,2}valid|\binvalid"
            r"|must (?:match|begin|start|end|only|contain only|be (?:a |an )?(?:valid|well|email|url|uri|uuid"
            r"|date|phone))"
            r"|must be an? (?:email|url|uri|uuid|date)|valid (?:email|url|uri|date|phone|uuid|ip)|illegal"
            r"|iso ?8601|well-formed|parse error|parsing|printable|syntax"
            r"|is not (?:a |an )?(?:\w+ )?(?:email|url|date|phone)|doesn't match|不正确|格式|无效|ungültig"
            r"|invalide"
            r"|inválid|n'est pas valide|no es válid|形式|正しく",
        ),
    )
)

_CODES: tuple[tuple[Reason, re.Pattern[str]], ...] = tuple(
    (reason, re.compile(pattern))
    for reason, pattern in (
        (Reason.UNIQUE, r"alreadyexist|duplicat|unique|taken|alreadyin|conflict|exists$"),
        (
            Reason.UNKNOWN,
            r"unknown(?:field|param|prop|key|attr|arg|column)|extraforbidden|unrecognized|unexpected(?:field"
            r"|param|key|prop)|additionalprop|parameterunknown|nosuchfield|invalidfield$|notpermitted"
            r"|strictdynamic",
        ),
        (
            Reason.MISSING,
            r"missing|required|blank|mandatory|notnull|empty|notext|nullvalue|presence|notprovided"
            r"|fieldvaluerequired|^presen",
        ),
        (
            Reason.ENUM,
            r"enum|literal|invalidoption|invalidchoice|invalidvalue$|notinlist|inclusion|unsupported|oneof"
            r"|invalidselection|picklist|notallowedvalue|^choice|expectedvalid",
        ),
        (
            Reason.LENGTH,
            r"toolong|tooshort|length|maxlen|minlen|stringtoo|toomanychar|longer|shorter|maxitems|minitems",
        ),
        (
            Reason.RANGE,
            r"toolow|toohigh|toolarge|toosmall|toobig|range|minimum|maximum|^min$|^max$|greaterthan|lessthan"
            r"|outofbounds|exceed|positive|negative|toomany|toofew|amounttoo",
        ),
        (
            Reason.TYPE,
            r"type$|^type|invalidtype|wrongtype|parsing$|typeerror|notan?(?:integer|number|string|array"
            r"|object)|^int|mapperparsing|expected(?:js)?(?:string|int|num|bool|array)",
        ),
        (
            Reason.FORMAT,
            r"format|pattern|regex|invalidemail|emailinvalid|mustbevalid|malformed|^invalid$|invalidstring"
            r"|baduser|syntax|^email$|validemail|invalid(?:url|date|phone|json)",
        ),
    )
)


@lru_cache(2048)
def reason_of(text: str, codes: tuple[str, ...] = ()) -> Reason:
    """Return why, by the sentence, else by the codes: what a person is told is the more exact of the two."""
    flat = [
        re.sub(r"[\W_]+", "", code.rsplit("#", 1)[-1]).lower() for code in codes if not code.lstrip("-").isdigit()
    ]
    for reason, pattern in _TEXT:
        if text and pattern.search(text):
            if reason is Reason.FORMAT or (reason is Reason.OTHER and text[:8].lower() == "invalid "):
                break
            return reason
    else:
        reason = Reason.OTHER
    for coded, pattern in _CODES:
        if any(pattern.search(code) for code in flat):
            return coded
    return reason


@lru_cache(2048)
def said_reason(text: str) -> Reason | None:
    """Return why, if the sentence says so in its words; None when it says nothing of the kind."""
    return next((reason for reason, pattern in _TEXT if pattern.search(text)), None)
