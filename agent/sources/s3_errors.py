"""botocore's exceptions → what happens next. The only place that knows their codes."""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from agent.errors import FetchError, Retryable, Stalled
from agent.headers import retry_after
from agent.sources.failures import already_told, http_failure, unreachable
from shared.domain.reasons import Reason

_NOT_FOUND = frozenset({"NoSuchBucket", "NoSuchKey", "NotFound", "404"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AccountProblem",
        "ExpiredToken",
        "Forbidden",
        "InvalidAccessKeyId",
        "InvalidSecurity",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "XAmzContentSHA256Mismatch",
    }
)
_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"})
_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


def translate(exc: Exception, what: str) -> FetchError:
    """`what`: bucket and key as a person wrote them."""
    told = already_told(exc)
    if told is not None:
        return told
    match exc:
        case boto.ClientError():
            return _answered(exc, what)
        case boto.NoCredentialsError() | boto.PartialCredentialsError():
            return Stalled(
                Reason.CREDENTIALS_MISSING, f"there are no usable credentials for {what}"
            )
        case boto.CredentialRetrievalError() | boto.MetadataRetrievalError():
            return Retryable(
                Reason.CREDENTIALS_UNREACHABLE,
                f"the agent's own credentials for {what} could not be had",
            )
        case boto.SSLError():
            return unreachable(what, "the endpoint's certificate is not trusted, or TLS failed")
        case boto.ConnectTimeoutError() | boto.ReadTimeoutError() | TimeoutError():
            return unreachable(what, "the endpoint did not answer in time")
        case boto.EndpointConnectionError() | boto.ProxyConnectionError() | boto.HTTPClientError():
            return unreachable(what, "no connection to the endpoint")
        case boto.NoRegionError():
            return Stalled(Reason.CREDENTIALS_INVALID, f"{what} needs a region")
        case ResponseParserError() | boto.IncompleteReadError():
            return Retryable(
                Reason.SOURCE_ERROR, f"{what}: the endpoint does not answer as S3 does"
            )
        case boto.BotoCoreError():
            return Stalled(Reason.INVALID_SOURCE, f"{what}: {type(exc).__name__}")
        case OSError():
            return unreachable(what, "no connection to the endpoint")
        case _:
            return Retryable(
                Reason.SOURCE_ERROR, f"{what}: unexpected {type(exc).__name__} while listing"
            )


def _answered(exc: boto.ClientError, what: str) -> FetchError:
    code = str(exc.response.get("Error", {}).get("Code", ""))
    meta = exc.response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0) or 0)
    after = retry_after(meta.get("HTTPHeaders", {}))
    if code == "NoSuchBucket":
        return Stalled(Reason.SOURCE_NOT_FOUND, f"the bucket of {what} does not exist")
    if code in _NOT_FOUND:
        return http_failure(404, what)
    if code in _DENIED:
        return Stalled(Reason.ACCESS_DENIED, f"access to {what} is denied ({code})")
    if code in _THROTTLED:
        return http_failure(503, what, after=after)
    if code in _REGION or status == 301:
        return Stalled(
            Reason.INVALID_SOURCE, f"{what} is in another region than the credentials say ({code})"
        )
    if code == "RequestTimeTooSkewed":
        return Retryable(Reason.SOURCE_ERROR, f"{what}: this node's clock is wrong ({code})")
    return http_failure(status if status >= 400 else 500, what, after=after)
