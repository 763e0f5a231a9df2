"""How Google Cloud Storage is asked, and what is said where that fails."""

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from typing import Any

from jaxdl.errors import InputError

PATIENCE = 20.0  # seconds until a bucket that does not answer at the beginning is given up; later Google's own


@functools.cache
def check_bucket(bucket: str) -> None:
    """Raises InputError if the bucket is not there, or this account may not list it."""
    asked = client()
    from google.cloud.storage.retry import DEFAULT_RETRY

    with explained(bucket):
        next(iter(asked.list_blobs(bucket, max_results=1, retry=DEFAULT_RETRY.with_timeout(PATIENCE))), None)


@functools.cache
def client() -> Any:
    """Google's own, which is the one that Orbax asks, too."""
    # TensorFlow's files, which Orbax would take where that is installed, know neither its versions nor an emulator
    os.environ.setdefault("EPATH_USE_TF", "false")
    try:
        import fsspec.config
        import gcsfs  # noqa: F401, for Orbax
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage import Client
    except ImportError as error:
        raise InputError("paths that begin with gs:// need gcsfs: pip install gcsfs") from error
    from etils.epath import gpath

    if hasattr(gpath, "_is_tf_installed"):  # it remembers what it found before
        gpath._is_tf_installed.cache_clear()
    # TensorStore and other processes write there, too: what was listed a while ago is not what is there
    fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)
    try:
        return Client()
    except (GoogleAuthError, OSError) as error:
        raise InputError(
            f"this machine has no access to Google Cloud Storage ({_first(error)}); log in by: gcloud auth "
            "application-default login, and name a project in the environment variable GOOGLE_CLOUD_PROJECT"
        ) from error


@contextlib.contextmanager
def explained(bucket: str) -> Iterator[None]:
    """What Google's client raises becomes one InputError, which names the bucket."""
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except NotFound as error:
        if "No such object" in str(error):
            raise FileNotFoundError(errno.ENOENT, "An object vanished meanwhile", f"gs://{bucket}") from error
        raise InputError(
            f"there is no bucket 'gs://{bucket}'; make it by: gcloud storage buckets create gs://{bucket}, or name "
            "another"
        ) from error
    except (Forbidden, Unauthorized) as error:
        raise InputError(
            f"this account may not do that in the bucket 'gs://{bucket}' ({_first(error)}); ask its owner for the role "
            "Storage Admin there, or log in as another by: gcloud auth application-default login"
        ) from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise InputError(f"the bucket 'gs://{bucket}' cannot be reached ({_first(error)}); try again later") from error


def _first(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"
