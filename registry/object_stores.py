"""Says in one line why S3, or a store with its API, did not do what MLflow or DVC wanted of it."""

from __future__ import annotations

from registry.refusals import causes

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REFUSED = ("403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken")
_NO_ANSWER = ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError")


def s3_fault(error: BaseException | None) -> str | None:
    """Return what S3 refused, and what to do, where an error or its cause comes from S3; otherwise None.

    >>> s3_fault(ValueError("5 is no date")) is None
    True
    """
    for each in causes(error) if error is not None else ():
        is_of_s3 = type(each).__module__.partition(".")[0] in ("botocore", "boto3", "aiobotocore")
        if is_of_s3 and (fault := _fault_of(each)):
            return fault
    return None


def _fault_of(error: BaseException) -> str | None:
    name = type(error).__name__
    code = str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))
    if name in ("NoCredentialsError", "PartialCredentialsError"):
        return f"S3 needs keys, and there are none: set {KEYS}, or give this machine a role"
    if name in _NO_ANSWER:
        return f"{error}; see that AWS_ENDPOINT_URL is right, and that this machine reaches it"
    if code in _REFUSED:
        return f"S3 refuses it ({code}): see that {KEYS} are right, and that their user may read and write the bucket"
    if code == "NoSuchBucket":
        return "the bucket does not exist (NoSuchBucket): create it, or mend its name"
    return f"S3 answers {code}: {error}" if code else None
