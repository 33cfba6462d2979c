"""What codes and sentences of an error body are signs of, in any dialect and several languages.

Codes weigh more than sentences (they are meant for programs), the first complaint more than later ones.
Numbers are not read: the same number means something else at every upstream, save in protocols that fix them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from discovery.complaints import Complaint


class Sign(StrEnum):
    """What an error is about. The order is the order of precedence within one sentence or code."""

    RATE = "a limit on calls"
    EXISTS = "something there already"
    BUSY = "a state that will pass"
    AUTH = "who is asking"
    ABSENT = "something not there"
    INTERNAL = "a failure of the server"
    INVALID = "the request's own form"
    RULE = "a rule that forbids it"


_TEXT: dict[Sign, re.Pattern[str]] = {
    sign: re.compile(pattern, re.I)
    for sign, pattern in {
        Sign.RATE: r"rate.?limit|throttl|\brate (?:was |has been )?exceeded|throughput exceeded|enhance your calm"
        r"|too many (?:requests|calls|attempts|login)|\bquota|slow ?down|too (?:fast"
        r"|frequent)|"
        r"(?:requests?|calls?|api|usage|daily|hourly|monthly|rate|login|per.second|query"
        r"|frequency)\s(?:[\w-]+\s){0,3}(?:limit|cap|attempt\w*)\b.{0,30}(?:exceed|reach|hit)|"
        r"(?:exceed|reach|hit|over)\w* .{0,40}\b(?:rate|request|call|api|usage|frequency)s?\b.{0,20}(?:limit"
        r"|quota|cap)|limit exceeded|budget exhausted|"
        r"abuse detection|exceeded.{0,30}times per|reduce your request|error code: 1015|频率|限流|超限|配额"
        r"|请求过于频繁"
        r"|zu viele anfragen|demasiadas (?:solicitudes|peticiones)|trop de requ|muitas (?:requisi|solicita)"
        r"|リクエスト.{0,10}(?:制限|多)",
        Sign.EXISTS: r"already (?:exist\w*|been|present|taken|in (?!the process)|an? "
        r"|registered|used|done|paid|processed"
        r"|captured|refunded|cancell?ed|enabled|subscribed|closed)|duplicate|(?:member|record|name|email|user"
        r"|item) exists|\bexists\b(?<!not exists)|\bin use\b|not unique|must be unique|unique constraint|"
        r"conflict|collision|modified meanwhile|been modified|version mismatch|different version"
        r"|stale (?:object|version|resource)"
        r"|version is out of date|not the (?:latest|current) version|optimistic lock"
        r"|idempotency key .{0,20}(?:used|reused)|已存在|重复|已被|既に|bereits|ya (?:existe|est)|déjà"
        r"|já (?:existe|cadastrad)|gibt es schon|existe déjà",
        Sign.BUSY: r"try again (?:later|in|soon|shortly)|please (?:try again|retry)|retry (?:later|in|your|after)"
        r"|temporar|unavailable|overload|\bbusy\b|timed? ?out|timeout|maintenance|in.progress\b|transient"
        r"|deadlock|exclusive access|unable to (?:obtain|acquire|lock)|\blocked by|another (?:operation"
        r"|process|request|transaction)|currently (?:being )?(?:process|updat|creat|lock|running)"
        r"|being (?:processed|updated|modified)|"
        r"系统繁忙|稍后|维护|服务不可用|一時的|メンテナンス|später (?:erneut|noch)|más tarde"
        r"|plus tard|mais tarde|réessayer",
        Sign.AUTH: r"unauthori[sz]ed|unauthenticated|not (?:been )?(?:authori[sz]ed"
        r"|authenticated|logged)|authenticat"
        r"|authori[sz]ation (?:header|token|fail|error|required)|credential|security (?:error|header)"
        r"|permission|forbidden|access (?:is |was )?denied|not allowed to|not accessible"
        r"|insufficient (?:scope|privilege|right|permission)|"
        r"(?:token|session|api.?key|signature|password|license|licence|secret|jwt)\b.{0,30}(?:invalid|expired"
        r"|revoked|missing|incorrect|wrong|not valid)|(?:invalid|expired|missing|incorrect|wrong"
        r"|bad) .{0,20}(?:token|api.?key|credential|signature|password|session|secret)|log ?in\b(?! attempt)"
        r"|sign in|re-?authenticate|valid (?:[\w-]+ ){0,3}(?:access key|api key|token"
        r"|credentials?)\b|\bscopes?\b.{0,20}(?:required|missing)|required scope|access token|must (?:have"
        r"|be) .{0,30}(?:access|admin|member|rights|owner)|two-factor|login details|privilege|not granted"
        r"|upgrade your (?:plan|account)|subscription to do|"
        r"权限|未授权|登录|签名|令牌|未登录|ログインして|認証|berechtig"
        r"|nicht autorisiert|anmelde|no autorizado|permiso|non autoris"
        r"|não autorizad|permissão",
        Sign.ABSENT: r"not.?found|does ?n.t exist|do(?:es)? not exist|is not exists?|not exist\b|no such"
        r"|could ?n.t (?:be )?f(?:ou|i)nd|could not (?:be )?(?:find|found|resolve)|could n[o']t find"
        r"|unknown (?:account|user|customer|object|resource|id|record|order)|no .{1,60} found"
        r"|no longer (?:exists|available)|not a member|matches the given query|cannot (?:get|post|put|delete"
        r"|patch) /|"
        r"不存在|未找到|找不到|見つかりません|存在しません|nicht gefunden|existiert nicht"
        r"|no (?:existe|se encontr|encontrad)"
        r"|introuvable|n.existe pas|non trouv|não (?:encontrad|existe)",
        Sign.INTERNAL: r"internal (?:server )?error|internal failure"
        r"|unexpected (?:server )?error|server error|system error"
        r"|unknown error|fatal error|backend|something went wrong|database error|null ?pointer|stack ?trace"
        r"|unhandled|系统错误|服务器错误|内部错误|サーバーエラー|interner fehler"
        r"|error interno|erreur interne|erro interno",
        Sign.INVALID: r"invalid|not (?:an? )?(?:\w+ )?valid|\brequired?\b|missing|\bmust\b"
        r"|should (?:be|match)|mandatory"
        r"|blank|empty|malformed|unrecogni[sz]ed|unknown|unexpected|validation|format|parse|parsing|schema"
        r"|\btype\b|too (?:long|short|large|small|many|few|high|low)|out of range|maximum|minimum|(?:less"
        r"|greater) than|must not|characters|bad request|illegal|not be (?:null|blank|empty)|expected"
        r"|\bone of\b|specify|specified|incorrect|syntax|(?:does ?n.t|do(?:es)? not|did ?n.t) match"
        r"|mismatch|too weak"
        r"|^no \w+(?: or \w+)* *$|måste|krävs|saknas|ogiltig|ugyldig|påkrev|mangler|kan ikke være"
        r"|geçersiz|zorunlu|wymagan"
        r"|nieprawid|obbligator|não pode|не указан|обязател|неверн|некоррект|недопустим|ongeldig"
        r"|verplicht|neplatn|povinn|wasn't supplied|weren't supplied|not provided|unable to verify|"
        r"参数|格式|不正确|不能为空|缺少|无效|必須|必填|入力|ungültig|erforderlich|fehlt|pflicht"
        r"|inválid|obligator|requerid"
        r"|invalide|valide|requis|obligatoire|obrigat",
        Sign.RULE: r"(?:does|do) not (?:allow|support|permit)|not (?:supported|available"
        r"|allowed|permitted|possible"
        r"|eligible|enough)|cannot|can not|can't|unable to|declin|insufficient|expired|only\b|disabled"
        r"|refused|rejected|blocked|may not|does not have|not enabled|unsupported|not active",
    }.items()
}

_CODE: dict[Sign, re.Pattern[str]] = {
    sign: re.compile(pattern)
    for sign, pattern in {
        Sign.RATE: r"ratelimit|throttl|toomanyrequest|quota|slowdown|requestlimit"
        r"|limitexceeded$|throughputexceeded"
        r"|resourceexhausted|toomanycalls|complexityexc|usagelimit|requestthrottled|bandwidth",
        Sign.EXISTS: r"exist(?:s|ed)?(?:error|exception)?$|alreadyin|^already|duplicat"
        r"|conflict(?!.*valid)|nameinuse"
        r"|(?<!key)inuse$|taken|hassuccess|preconditionfailed|conditionalcheck|etagmismatch|idempotencykeyreuse"
        r"|alreadycontributor",
        Sign.BUSY: r"unavailable|overload|busy|timeout|maintenance|inprogress|transient|deadlock|unabletolock"
        r"|resourcelocked|^locked$|aborted|concurrent|trylater|tryagain|lockconflict|notready|temporar"
        r"|backenderror|serviceerror|inflight|keyinuse$",
        Sign.AUTH: r"unauthori[sz]ed|unauthenticated|notauthed|authfail|authenticat"
        r"|accessdenied|(?<!extra)forbidden"
        r"|permission|invalidtoken|tokenexpired|expiredtoken|invalidgrant|invalidclient|credential|oauthexc"
        r"|accesskey|apikey|sessionkey|invalidkey|invalidauth|autherror|signature|notallowedtoken"
        r"|userrequired|scope|loginrequired|security|acl"
        r"|privilege|accountinactive|goldrequired",
        Sign.ABSENT: r"notfound|noexist|doesnotexist|doesntexist|nosuch(?!field|column)"
        r"|resourcemissing|missingresource"
        r"|unknownobject|notexist",
        Sign.INTERNAL: r"internal|fatalerror|servererror|systemerror|unexpectederror"
        r"|unknownerror|^unknown$|^faultserver$"
        r"|servicefailure",
        Sign.INVALID: r"invalid|valid|required|missing|malformed|badrequest|unprocessable"
        r"|parameter|blank|unknown(?:field"
        r"|param)|format|toolong|tooshort|badvalue|argument|schema|baduser|notext|invalidoption|mandatory"
        r"|syntax|parse|mapping|strictdynamic|badparam",
        Sign.RULE: r"declin|notallowed|notsupported|unsupported|insufficient|forbid|blocked"
        r"|cant|cannot|refused|rejected"
        r"|denied|disabled|expired|halted",
    }.items()
}

_STOCK = re.compile(
    r"quota (?:of|for) (?!quota)|already used|number of|limit of \d+|(?:storage|disk|instance|seat"
    r"|server|project|user|record|resource)s?"
    r" (?:quota|limit)|reached (?:the|your) (?:limit|quota|maximum)",
    re.I,
)
_PACED = re.compile(
    r"\brequests\b|request (?:rate|limit|quota)|\bcalls?\b|quer(?:y|ies)|\brate\b|per (?:second"
    r"|minute|hour|day|month)|per-|second|minute|hour|daily|monthly"
    r"|later|retry|throttl|slow|quota metric|times|attempt",
    re.I,
)


@lru_cache(512)
def is_stock(text: str) -> bool:
    """Tell whether a limit is on how much there may be, which no waiting cures, rather than on calls."""
    return bool(text) and _STOCK.search(text) is not None and _PACED.search(text) is None


@lru_cache(2048)
def sign_of_code(code: str) -> Sign | None:
    """Return what a code is a sign of. `x#RateLimited`, `rate-limited` and `RATE_LIMITED` are alike."""
    flat = (
        re.sub(r"[\W_]+", "", code.rsplit("#", 1)[-1]).lower()
        if "://" not in code
        else re.sub(r"[\W_]+", "", code.rsplit("/", 1)[-1]).lower()
    )
    if not flat or flat.isdigit():
        return None
    return next((sign for sign, pattern in _CODE.items() if pattern.search(flat)), None)


@lru_cache(2048)
def sign_of_text(text: str) -> Sign | None:
    """Return what a sentence is a sign of, the most telling first."""
    return next((sign for sign, pattern in _TEXT.items() if pattern.search(text)), None)


def signs_of(complaints: Sequence[Complaint]) -> list[tuple[Sign, str]]:
    """Return (sign, the words that are it), codes before sentences within each complaint, outermost first."""
    found: dict[tuple[Sign, str], None] = {}
    stock = any(is_stock(complaint.text) for complaint in complaints[:5])
    for number, complaint in enumerate(complaints[:40]):
        for code in complaint.codes[:6]:
            if (sign := sign_of_code(code)) is not None:
                sign = Sign.RULE if stock and sign is Sign.RATE else sign
                found.setdefault((sign, code))
        if number < 12 and complaint.text and (said := sign_of_text(complaint.text[:600])) is not None:
            said = Sign.RULE if stock and said is Sign.RATE else said
            found.setdefault((said, complaint.text.split("\n")[-1][:200]))
    return list(found)
