"""What each problem the gateway states means, and what to do about it: the texts behind `/-/problems/{slug}`.

One entry per slug. The document of one case (`gateway.problems`) says what happened; this says it in general.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem. `effect` tells in a few words whether the upstream may have done something."""

    slug: str
    status: str
    title: str
    effect: str
    means: str
    cure: tuple[str, ...]


PROBLEM_TYPES = {
    kind.slug: kind
    for kind in (
        ProblemType(
            "in-doubt",
            "502 or 504",
            "It may or may not have taken effect",
            "unknown",
            "An unsafe request left the gateway and no definite answer came back: the connection broke, the "
            "upstream was silent, or it answered with an error that does not say. Sending it again could double "
            "its effect, so the gateway does not. Phase says how far it got, resolvers what can settle it.",
            (
                "Look at the upstream whether it took effect.",
                "Say so on the call's page, or with: gimbal resolve ID --applied or --not-applied.",
                "Then repeat the step. Applied: it is told the recorded reply. Not applied: it is sent anew.",
                "To avoid it: configure the upstream's idempotency keys, or a look-up for the operation.",
            ),
        ),
        ProblemType(
            "deferred",
            "503, or 202 to callers that said respond-async",
            "Not yet",
            "none, or safe to repeat",
            "The call is safe to send, but not before its time: the upstream asked to wait longer than the caller "
            "is willing to. The step is kept with its request.",
            (
                "Repeat the step after Retry-After; it goes on from where it stands.",
                "Or watch the address in Location: 202 while it waits, then the reply itself.",
                "To wait inside the call, say Prefer: wait=SECONDS, or raise the upstream's wait.",
            ),
        ),
        ProblemType(
            "in-progress",
            "409",
            "The same step is running elsewhere",
            "told by the running one",
            "Another run of this step holds it and did not end within the caller's patience. Nothing was sent for "
            "this one. A holder that died is noticed within 5 seconds.",
            (
                "Repeat the step: it joins the running one and is told its reply.",
                "If these are two steps, give each a Workflow-Step (or key) of its own.",
            ),
        ),
        ProblemType(
            "key-reused",
            "422",
            "Same step, other request",
            "none by this request; the first one's stands",
            "A step is one request. This one was sent before with another request, and that had an effect or may "
            "have had one. Credentials, dates and an SDK's own markers do not count as a difference.",
            (
                "Give the new request a Workflow-Step (or Idempotency-Key) of its own.",
                "If the workflow computes something new each run (a time, a random id), compute it in a step of "
                "its own, or send it from what was recorded.",
                "If the first request is in doubt, settle it first.",
            ),
        ),
        ProblemType(
            "key-required",
            "400",
            "This upstream wants every unsafe call to have an identity",
            "none",
            "The upstream is configured with require_key, and the call brought neither Workflow-Id nor "
            "Idempotency-Key: a repeat of it could not be told from a second order.",
            ("Send Workflow-Id (best with Workflow-Step), or an Idempotency-Key.",),
        ),
        ProblemType(
            "needs-input",
            "422",
            "The upstream wants something the gateway may not invent",
            "none",
            "The upstream refused the request because fields are missing or have values it does not take, and "
            "nothing seen before says what belongs there. Member fields lists each with its place and reason.",
            (
                "Correct the fields named and send the request again under the same step: nothing took effect, so "
                "it goes out anew.",
            ),
        ),
        ProblemType(
            "contract-broken",
            "502",
            "The answer lacks what this workflow needs",
            "none: the call was a safe one",
            "A person marked a field as required for this workflow type; the upstream's answer no longer has it, "
            "and no adaptation brings it back.",
            (
                "Look at what changed: gimbal drift NAME.",
                "Change the workflow to the new shape and pin it, or take the mark off the field.",
            ),
        ),
        ProblemType(
            "exhausted",
            "502 or 503",
            "Retries, budget or deadline are used up",
            "none",
            "The upstream kept answering with errors that pass, for longer than the retries, the budget or the "
            "deadline allow. Nothing took effect. Member upstream has its last words.",
            (
                "Repeat the step later; it starts anew.",
                "If it happens often, look at the upstream's page: its rate, attempts and wait may not fit it.",
            ),
        ),
        ProblemType(
            "upstream-unreachable",
            "502",
            "The upstream cannot be reached",
            "none: never sent",
            "No connection came about: the name did not resolve, the connection was refused or timed out, or TLS "
            "failed. No byte of the request left, so it is safe to call again.",
            (
                "Check the upstream's base_url and the network: gimbal doctor tries both.",
                "Repeat the call.",
            ),
        ),
        ProblemType(
            "ledger-unavailable",
            "503",
            "The ledger is away",
            "none that is not recorded",
            "The store that remembers calls does not answer. Without it a call could be sent twice, so nothing is "
            "sent. The embedded store is restarted by itself, usually within a second.",
            (
                "Repeat the call; Retry-After says when.",
                "If it stays away: gimbal doctor tells what is wrong (a full disk, a wrong address, a password).",
            ),
        ),
        ProblemType(
            "unknown-upstream",
            "404",
            "No upstream has that name",
            "none",
            "The first segment of the path names the upstream, and only configured ones can be called. Member "
            "upstreams lists them.",
            (
                "Correct the name in the address.",
                "Or add it: gimbal serve --upstream NAME=URL, or [upstreams.NAME] in gimbal.toml.",
            ),
        ),
        ProblemType(
            "refused-target",
            "403",
            "The rules for outgoing calls forbid that address",
            "none",
            "The gateway calls the upstreams it was given and nothing else, so that a workflow (or whoever writes "
            "its input) cannot reach into your network.",
            ("Name the address as an upstream, if it is meant to be called.",),
        ),
        ProblemType(
            "too-large",
            "413",
            "Too large to remember",
            "none",
            "A step's request is kept until it is settled, so its size is bounded. Calls without identity "
            "and safe ones pass through at any size, unrecorded.",
            (
                "Raise limits.body, or the upstream's body_limit.",
                "Or send it without identity, if doubling it would do no harm.",
            ),
        ),
        ProblemType(
            "bad-request",
            "400, or 405, 431, 501, 505 where the detail says so",
            "The request cannot be read",
            "none",
            "The request is no HTTP/1.1 that can be read in one way only, or its head is too large; or a control "
            "header, an address under /-/ or a body sent to the gateway itself is malformed. The detail tells.",
            ("Correct what the detail names.", "A head that is too large: raise limits.headers."),
        ),
        ProblemType(
            "internal",
            "500",
            "The gateway failed",
            "the ledger says",
            "Something went wrong in the gateway that is not the upstream's doing nor the caller's: a defect.",
            ("Look at the call, and whether anything was sent: gimbal calls.", "Report what the log says."),
        ),
        ProblemType(
            "reply-missing",
            "502",
            "It took effect, but its answer is not known",
            "all",
            "The call was in doubt and was settled as applied without the upstream's own answer. A repeat sends "
            "nothing and has no reply to tell.",
            (
                "Read the result back from the upstream and let the workflow go on from it.",
                "To settle the next one with its answer: gimbal resolve ID --applied --response FILE.",
            ),
        ),
        ProblemType(
            "cancelled",
            "410",
            "The call was given up",
            "none",
            "A person gave the waiting call up. It is not sent, and nothing took effect.",
            ("Repeat the step, if it is wanted after all: it starts anew.",),
        ),
        ProblemType(
            "wrong-state",
            "409",
            "The call's state does not allow that",
            "unchanged",
            "Only a call in doubt can be settled; only one that waits can be hurried or given up; only a workflow "
            "with nothing open can be ended. The call may have moved on since it was shown. Nothing changed.",
            ("Look at the call again: it says what can be done with it now.",),
        ),
        ProblemType(
            "not-found",
            "404",
            "There is nothing at that address",
            "none",
            "No page, call, workflow or upstream has that name. A call's record is kept as long as its workflow, "
            "and some days after it ended.",
            ("Start from the overview at /-/.",),
        ),
        ProblemType(
            "unauthorized",
            "401, or 407 to callers",
            "That needs a token",
            "none",
            "Pages and data under /-/ want the admin token; calls want a caller's token where callers are "
            "configured.",
            (
                "Programs: Authorization: Bearer with the content of the file admin-token in the data directory. "
                "gimbal doctor tells where that is.",
                "Browsers: open the link that gimbal serve printed at its start.",
                "Callers: Proxy-Authorization: Bearer with a token from [callers].",
            ),
        ),
        ProblemType(
            "unknown-host",
            "403",
            "This console does not answer to that name",
            "none",
            "The Host header names a host that is neither this machine nor a configured name. A page on the web "
            "could otherwise make its own name lead here and read what you can read (DNS rebinding).",
            (
                "Use 127.0.0.1, localhost, the address itself, or the name the gateway listens on.",
                "Another name (a container's, a proxy's): hosts = [\"gimbal.internal\"] in gimbal.toml.",
            ),
        ),
        ProblemType(
            "foreign-page",
            "403",
            "A web page made this call",
            "none",
            "A browser called an upstream because a page told it to: one of another site, one under a name this "
            "gateway does not go by, or a script that would stand between the gateway and its browser. Any page "
            "on the web could do so, with the credentials that are injected here. Programs are not concerned.",
            (
                "Call from a program, or from a page served on the same machine.",
                'A page under another name of this gateway\'s: hosts = ["gimbal.internal"] in gimbal.toml.',
            ),
        ),
    )
}
"""Slug -> what it means, in the order a reader would look for them."""
