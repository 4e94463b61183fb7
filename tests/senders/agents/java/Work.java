import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A program that knows nothing of OpenTelemetry: {@code go} has it make HTTP requests, which are refused and traced by the agent;
 * {@code stop} ends it with the agent's own end, and the end of the input at once.
 */
public final class Work {
  public static void main(String[] args) throws Exception {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    Matcher plan = Pattern.compile("\"spans\":(\\d+)").matcher(input.readLine());
    if (!plan.find()) {
      throw new IllegalArgumentException("the plan has no `spans`");
    }
    HttpClient client = HttpClient.newHttpClient();
    System.out.println("ready");
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      if (line.equals("go")) {
        for (int number = 0; number < Integer.parseInt(plan.group(1)); number++) {
          try {
            // Nothing listens at port 1.
            URI nobody = URI.create("http://127.0.0.1:1/work");
            client.send(HttpRequest.newBuilder(nobody).build(), HttpResponse.BodyHandlers.discarding());
          } catch (IOException refused) {
            continue;
          }
        }
      } else if (line.equals("stop")) {
        System.exit(0);
      }
    }
    Runtime.getRuntime().halt(0);
  }
}
