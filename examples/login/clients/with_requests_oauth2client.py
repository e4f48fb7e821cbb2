"""Calls the OpsAdmin API with requests_oauth2client, for each path in the standard input.

The issuer, the API and the folder of the mounted Secret are in variables.
"""

import os
import sys
from pathlib import Path

from requests_oauth2client import ApiClient, ClientSecretJwt, EndpointError, OAuth2Client, OAuth2ClientCredentialsAuth

ISSUER = os.environ["OPSADMIN_ISSUER"]
API = os.environ["OPSADMIN_API"]
KEYS = Path(os.environ.get("OPSADMIN_KEYS", "/etc/opsadmin"))
LEEWAY = 2  # A token that ends within so many seconds is replaced.


class Login(OAuth2ClientCredentialsAuth):
    """Logs in with the present keys, and renews the token: by the refresh token, if the account gets one."""

    def __init__(self):
        api_key, secret_key = ((KEYS / name).read_text() for name in ("api-key", "secret-key"))
        client = OAuth2Client(f"{ISSUER}/token", auth=ClientSecretJwt(api_key, secret_key, aud=ISSUER))
        super().__init__(client, leeway=LEEWAY)

    def renew_token(self):
        if self.token is not None and self.token.refresh_token is not None:
            self.token = self.client.refresh_token(self.token)
        else:
            super().renew_token()


class OpsAdmin:
    """Calls the API, and logs in when it must."""

    def __init__(self):
        self.api = None

    def get(self, path):
        """Returns the API's answer. If the login is refused or has ended, reads the keys and logs in once more."""
        try:
            answer = self.call(path)
        except EndpointError:
            answer = None
        if answer is None or answer.status_code == 401:
            self.api = None
            answer = self.call(path)
        return answer

    def call(self, path):
        self.api = self.api or ApiClient(API, auth=Login(), raise_for_status=False)
        return self.api.get(path)


if __name__ == "__main__":
    opsadmin = OpsAdmin()
    for path in map(str.strip, sys.stdin):
        answer = opsadmin.get(path)
        print(answer.status_code, answer.text, flush=True)
