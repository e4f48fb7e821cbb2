import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.oauth2.sdk.*;
import com.nimbusds.oauth2.sdk.auth.*;
import com.nimbusds.oauth2.sdk.id.ClientID;
import com.nimbusds.oauth2.sdk.token.Tokens;
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;
import java.time.*;
import java.util.Scanner;

/**
 * Calls the OpsAdmin API with Nimbus, for each path in the standard input: java -cp 'jars/*' WithNimbus.java
 *
 * The issuer, the API and the folder of the mounted Secret are in variables.
 */
class WithNimbus {
    static final String ISSUER = System.getenv("OPSADMIN_ISSUER");
    static final String API = System.getenv("OPSADMIN_API");
    static final Path KEYS = Path.of(System.getenv().getOrDefault("OPSADMIN_KEYS", "/etc/opsadmin"));
    /** A token that ends within so many seconds is replaced. */
    static final int LEEWAY = 2;

    final HttpClient http = HttpClient.newHttpClient();
    ClientID apiKey;
    Secret secretKey;
    Tokens tokens;
    Instant end;

    /** Returns the API's answer. If the login is refused or has ended, reads the keys and logs in once more. */
    HttpResponse<String> get(String path) throws Exception {
        try {
            var answer = call(path);
            if (answer.statusCode() != 401) return answer;
        } catch (GeneralException refusal) {
            // The second refusal is an error.
        }
        tokens = null;
        return call(path);
    }

    HttpResponse<String> call(String path) throws Exception {
        if (tokens == null) {
            apiKey = new ClientID(Files.readString(KEYS.resolve("api-key")));
            secretKey = new Secret(Files.readString(KEYS.resolve("secret-key")));
            getTokens(new ClientCredentialsGrant());
        } else if (Instant.now().plusSeconds(LEEWAY).isAfter(end)) {
            var refreshToken = tokens.getRefreshToken();
            getTokens(refreshToken != null ? new RefreshTokenGrant(refreshToken) : new ClientCredentialsGrant());
        }
        var request = HttpRequest.newBuilder(URI.create(API + path));
        request.header("Authorization", tokens.getAccessToken().toAuthorizationHeader());
        return http.send(request.build(), HttpResponse.BodyHandlers.ofString());
    }

    void getTokens(AuthorizationGrant grant) throws Exception {
        // Nimbus calls it the endpoint, but the assertion must be for the issuer.
        var assertion = new ClientSecretJWT(apiKey, URI.create(ISSUER), JWSAlgorithm.HS256, secretKey);
        var request = new TokenRequest.Builder(URI.create(ISSUER + "/token"), assertion, grant).build();
        var asked = Instant.now();
        var answer = TokenResponse.parse(request.toHTTPRequest().send());
        if (!answer.indicatesSuccess()) throw new GeneralException(answer.toErrorResponse().getErrorObject());
        tokens = answer.toSuccessResponse().getTokens();
        end = asked.plusSeconds(tokens.getAccessToken().getLifetime());
    }

    public static void main(String[] arguments) throws Exception {
        var opsadmin = new WithNimbus();
        for (var paths = new Scanner(System.in); paths.hasNextLine(); ) {
            var answer = opsadmin.get(paths.nextLine());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
