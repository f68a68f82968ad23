import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerExtensionsValidatorCallback;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerToken;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallback;

/**
 * Stands for MSK's check of IAM tokens: a token is a presigned request, and its signature is computed again with the
 * secret key and the session token that the listener's configuration names.
 */
public final class MskIamValidator implements AuthenticateCallbackHandler {
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'").withZone(ZoneOffset.UTC);
    private Map<String, ?> options;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        options = entries.get(0).getOptions();
    }

    @Override
    public void close() {
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        for (Callback callback : callbacks) {
            if (callback instanceof OAuthBearerValidatorCallback validator) {
                try {
                    validator.token(token(validator.tokenValue()));
                } catch (Exception error) {
                    validator.error("invalid_token: " + error.getMessage(), null, null);
                }
            } else if (callback instanceof OAuthBearerExtensionsValidatorCallback extensions) {
                extensions.inputExtensions().map().keySet().forEach(extensions::valid);
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    private OAuthBearerToken token(String value) throws Exception {
        URI uri = new URI(new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8));
        Map<String, String> signed = new TreeMap<>();
        String signature = null;
        for (String pair : uri.getRawQuery().split("&")) {
            int sign = pair.indexOf('=');
            String name = pair.substring(0, sign);
            String parameter = URLDecoder.decode(pair.substring(sign + 1), StandardCharsets.UTF_8);
            if (name.equals("X-Amz-Signature")) {
                signature = parameter;
            } else if (!name.equals("User-Agent")) {
                signed.put(name, parameter);
            }
        }
        String region = option("region");
        String time = signed.get("X-Amz-Date");
        String scope = time.substring(0, 8) + "/" + region + "/kafka-cluster/aws4_request";
        expect(uri.getHost(), "kafka." + region + ".amazonaws.com");
        expect(signed.get("Action"), "kafka-cluster:Connect");
        expect(signed.get("X-Amz-Credential"), option("accessKey") + "/" + scope);
        expect(signed.get("X-Amz-Security-Token"), option("sessionToken"));
        expect(signed.get("X-Amz-SignedHeaders"), "host");
        Instant begin = TIME.parse(time, Instant::from);
        Instant end = begin.plusSeconds(Long.parseLong(signed.get("X-Amz-Expires")));
        if (Instant.now().isAfter(end)) {
            throw new IllegalArgumentException("the token has expired");
        }
        StringBuilder query = new StringBuilder();
        for (Map.Entry<String, String> parameter : signed.entrySet()) {
            query.append(query.length() > 0 ? "&" : "").append(parameter.getKey()).append('=');
            query.append(URLEncoder.encode(parameter.getValue(), StandardCharsets.UTF_8).replace("+", "%20").replace("*", "%2A"));
        }
        String request = "GET\n/\n" + query + "\nhost:" + uri.getHost() + "\n\nhost\n" + sha256("");
        String text = "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + sha256(request);
        byte[] key = ("AWS4" + option("secretKey")).getBytes(StandardCharsets.UTF_8);
        for (String step : List.of(time.substring(0, 8), region, "kafka-cluster", "aws4_request")) {
            key = hmac(key, step);
        }
        expect(signature, HexFormat.of().formatHex(hmac(key, text)));
        return new Token(value, option("accessKey"), begin.toEpochMilli(), end.toEpochMilli());
    }

    private String option(String name) {
        return (String) options.get(name);
    }

    private static void expect(String found, String expected) {
        if (!expected.equals(found)) {
            throw new IllegalArgumentException("expected " + expected + ", found " + found);
        }
    }

    private static String sha256(String text) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
    }

    private static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private record Token(String value, String principalName, Long startTimeMs, long lifetimeMs) implements OAuthBearerToken {
        @Override
        public Set<String> scope() {
            return Set.of();
        }
    }
}
