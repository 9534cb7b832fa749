// A Java service whose variants leak or not in known ways; see lab/services.toml.
//
//     java -cp target Server --port 8080 --variant token-cache

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.BitSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Server {
    private static final String SECRET = "heaptide-lab-hs256-secret"; // the load generator signs with it

    private record Claims(String subject, String email, String json) {}

    private record Answer(int status, String body) {}

    private static String variant = "stateless";

    // ---- what the variants keep --------------------------------------------------------------

    private static final Map<String, Claims> cache = new LinkedHashMap<>();
    private static final List<String> log = new ArrayList<>();
    private static final List<byte[]> samples = new ArrayList<>();

    /** Decoding is slow, so it is done once per token. */
    private static synchronized Claims claimsFor(String token) throws Exception {
        Claims claims = cache.get(token);
        if (claims == null) {
            claims = decode(token);
            if (claims != null) cache.put(token, claims);
        }
        return claims;
    }

    /** The oldest entry beyond {@code most} is evicted. */
    private static synchronized Claims boundedClaimsFor(String token, int most) throws Exception {
        Claims claims = claimsFor(token);
        if (cache.size() > most) cache.remove(cache.keySet().iterator().next());
        return claims;
    }

    /** Fills the cache with tokens of earlier users. */
    private static void fillCache(int entries) throws Exception {
        Base64.Encoder encoder = Base64.getUrlEncoder().withoutPadding();
        String header = encoder.encodeToString("{\"typ\":\"JWT\",\"alg\":\"HS256\"}".getBytes(StandardCharsets.UTF_8));
        for (int number = 0; number < entries; number++) {
            String sub = String.format("earlier-%08d", number);
            String json = "{\"sub\":\"" + sub + "\",\"email\":\"" + sub + "@lab.example\"}";
            String signed = header + "." + encoder.encodeToString(json.getBytes(StandardCharsets.UTF_8));
            cache.put(signed + "." + encoder.encodeToString(sign(signed)), new Claims(sub, sub + "@lab.example", json));
        }
    }

    /** Debugging code that was never removed. */
    private static synchronized void logResponse(Claims claims, String data) {
        log.add(claims.json + data);
    }

    private static void collectSamples() {
        while (true) {
            synchronized (Server.class) {
                samples.add(new byte[2048]);
            }
            try {
                Thread.sleep(10);
            } catch (InterruptedException ended) {
                return;
            }
        }
    }

    // ---- tokens ------------------------------------------------------------------------------

    private static Claims decode(String token) throws Exception {
        String[] parts = token == null ? new String[0] : token.split("\\.");
        if (parts.length != 3) return null;
        byte[] expected = sign(parts[0] + "." + parts[1]);
        if (!Base64.getUrlEncoder().withoutPadding().encodeToString(expected).equals(parts[2])) return null;
        String json = new String(Base64.getUrlDecoder().decode(parts[1]), StandardCharsets.UTF_8);
        return new Claims(text(json, "sub"), text(json, "email"), json);
    }

    private static byte[] sign(String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(SECRET.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(String json, String name) {
        int from = json.indexOf("\"" + name + "\":\"");
        if (from < 0) return "";
        from += name.length() + 4;
        return json.substring(from, json.indexOf('"', from));
    }

    // ---- routes ------------------------------------------------------------------------------

    private static final Map<String, Long> requests = new TreeMap<>();
    private static final BitSet bits = new BitSet(1 << 22); // fixed: these counts must not grow

    private static synchronized void count(String route, String token) {
        requests.merge(route, 1L, Long::sum);
        if (token != null) bits.set(token.hashCode() & ((1 << 22) - 1));
    }

    private static Answer data(String token) throws Exception {
        Claims claims = switch (variant) {
            case "token-cache", "big-claims" -> token == null ? null : claimsFor(token);
            case "lru-1024" -> token == null ? null : boundedClaimsFor(token, 1024);
            case "lru-5000-full" -> token == null ? null : boundedClaimsFor(token, 5000);
            default -> decode(token);
        };
        if (claims == null) return new Answer(401, "{}");
        StringBuilder body = new StringBuilder("{\"user\":\"" + claims.subject + "\",\"items\":[");
        for (int id = 1; id <= 8; id++) {
            body.append(id > 1 ? "," : "").append("{\"id\":").append(id).append(",\"name\":\"item of ").append(claims.subject)
                .append("\"}");
        }
        String answer = body.append("]}").toString();
        if (variant.equals("introspection-log")) logResponse(claims, answer);
        return new Answer(200, answer);
    }

    private static synchronized String truth() {
        StringBuilder routes = new StringBuilder();
        long total = 0;
        for (Map.Entry<String, Long> one : requests.entrySet()) {
            routes.append(routes.length() > 0 ? "," : "").append('"').append(one.getKey()).append("\":").append(one.getValue());
            total += one.getValue();
        }
        return "{\"variant\":\"" + variant + "\",\"entries\":" + (cache.size() + log.size() + samples.size())
            + ",\"distinct_tokens\":" + bits.cardinality() + ",\"requests\":{" + routes + "},\"total_requests\":" + total + "}";
    }

    private static Answer answer(HttpExchange exchange) throws Exception {
        String path = exchange.getRequestURI().getPath();
        String method = exchange.getRequestMethod();
        int bytes = exchange.getRequestBody().readAllBytes().length;
        if (path.equals("/truth")) return new Answer(200, truth());
        String header = exchange.getRequestHeaders().getFirst("Authorization");
        String token = header != null && header.startsWith("Bearer ") ? header.substring(7) : null;
        String route = method + " " + (path.startsWith("/users/") ? "/users/{id}" : path);
        switch (route) {
            case "GET /api/data", "GET /api/profile", "POST /api/upload", "GET /health", "GET /users/{id}" -> count(route, token);
            default -> {
                return new Answer(404, "{}");
            }
        }
        if (route.equals("GET /api/data")) return data(token);
        if (route.equals("GET /api/profile")) {
            Claims claims = decode(token);
            return claims == null ? new Answer(401, "{}") : new Answer(200, "{\"sub\":\"" + claims.subject + "\"}");
        }
        return new Answer(method.equals("POST") ? 201 : 200, "{\"bytes\":" + bytes + "}");
    }

    private static void serve(HttpExchange exchange) throws IOException {
        Answer answer;
        try {
            answer = answer(exchange);
        } catch (Exception error) {
            answer = new Answer(500, "{}");
        }
        byte[] body = answer.body.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(answer.status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    public static void main(String[] arguments) throws Exception {
        int port = 8080;
        for (int at = 0; at + 1 < arguments.length; at += 2) {
            if (arguments[at].equals("--port")) port = Integer.parseInt(arguments[at + 1]);
            if (arguments[at].equals("--variant")) variant = arguments[at + 1];
        }
        if (variant.equals("lru-5000-full")) fillCache(5000);
        if (variant.equals("background")) new Thread(Server::collectSamples).start();
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 128);
        server.createContext("/", Server::serve);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}
