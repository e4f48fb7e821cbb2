"""Calls the OpsAdmin API with Authlib, for each path in the standard input: python3 with_authlib.py

The issuer, the API and the folder of the mounted Secret are in variables.
"""

import os
import sys
from pathlib import Path

from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc7523 import ClientSecretJWT

ISSUER = os.environ["OPSADMIN_ISSUER"]
API = os.environ["OPSADMIN_API"]
KEYS = Path(os.environ.get("OPSADMIN_KEYS", "/etc/opsadmin"))
LEEWAY = 2  # A token that ends within so many seconds is replaced.


def log_in():
    """Logs in with the present keys. The session renews its token by itself."""
    session = OAuth2Session(
        (KEYS / "api-key").read_text(),
        (KEYS / "secret-key").read_text(),
        # Authlib calls it the token endpoint, but the assertion must be for the issuer.
        token_endpoint_auth_method=ClientSecretJWT(ISSUER),
        token_endpoint=f"{ISSUER}/token",
        grant_type="client_credentials",
        leeway=LEEWAY,
    )
    session.fetch_token()
    return session


class OpsAdmin:
    """Calls the API, and logs in when it must."""

    def __init__(self):
        self.session = None

    def get(self, path):
        """Returns the API's answer. If the login is refused or has ended, reads the keys and logs in once more."""
        try:
            answer = self.call(path)
        except OAuthError:
            answer = None
        if answer is None or answer.status_code == 401:
            self.session = None
            answer = self.call(path)
        return answer

    def call(self, path):
        self.session = self.session or log_in()
        return self.session.get(API + path)


if __name__ == "__main__":
    opsadmin = OpsAdmin()
    for path in map(str.strip, sys.stdin):
        answer = opsadmin.get(path)
        print(answer.status_code, answer.text, flush=True)
