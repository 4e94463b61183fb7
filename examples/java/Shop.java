import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.HttpTimeoutException;
import java.time.Duration;
import java.util.concurrent.Executors;

/** The shop: takes an order, and has `pay` charge for it. */
public class Shop {
    private static final HttpClient CLIENT =
            HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(3)).build();

    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/ready", exchange -> answer(exchange, 200, "ready"));
        server.createContext("/orders/", Shop::order);
        server.start();
    }

    private static void order(HttpExchange exchange) throws IOException {
        String order = exchange.getRequestURI().getPath().substring("/orders/".length());
        HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("PAY_URL") + "/payments/" + order))
                .timeout(Duration.ofSeconds(3))
                .build();
        try {
            var answer = CLIENT.send(request, BodyHandlers.ofString());
            answer(exchange, answer.statusCode() == 200 ? 200 : 502, answer.body());
        } catch (HttpTimeoutException e) {
            answer(exchange, 504, "pay does not answer");
        } catch (IOException | InterruptedException e) {
            answer(exchange, 502, "pay cannot be reached");
        }
    }

    private static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes();
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}
