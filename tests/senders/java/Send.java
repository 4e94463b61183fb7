import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Ends spans with the official OpenTelemetry SDK, through one exporter of each kind that it is given, its defaults untouched.
 *
 * <p>The first line of standard input says what is to be done, as JSON; {@code go} begins, {@code stop} has the SDK shut down,
 * and the end of the input ends the program at once.
 */
public final class Send {
  private static SpanExporter exporter(String protocol, String endpoint) {
    return protocol.equals("grpc")
        ? OtlpGrpcSpanExporter.builder().setEndpoint(endpoint).build()
        : OtlpHttpSpanExporter.builder().setEndpoint(endpoint + "/v1/traces").build();
  }

  private static SdkTracerProvider provider(String name, SpanExporter exporter) {
    Attributes attributes = Attributes.of(AttributeKey.stringKey("service.name"), name);
    return SdkTracerProvider.builder()
        .setResource(Resource.getDefault().merge(Resource.create(attributes)))
        .addSpanProcessor(BatchSpanProcessor.builder(exporter).build())
        .build();
  }

  private static String field(String json, String name) {
    Matcher found = Pattern.compile("\"" + name + "\":\"?([^\",}]*)").matcher(json);
    if (!found.find()) {
      throw new IllegalArgumentException("the plan has no `" + name + "`: " + json);
    }
    return found.group(1);
  }

  private static void endSpans(List<Tracer> tracers, int spans, double seconds) {
    long begun = System.nanoTime();
    for (int number = 0; number < spans; number++) {
      long due = begun + (long) (seconds * 1e9 * number / spans);
      long wait = due - System.nanoTime();
      if (wait > 0) {
        try {
          TimeUnit.NANOSECONDS.sleep(wait);
        } catch (InterruptedException interrupted) {
          return;
        }
      }
      for (Tracer tracer : tracers) {
        tracer.spanBuilder("work").startSpan().end();
      }
    }
  }

  public static void main(String[] args) throws Exception {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
    String plan = input.readLine();
    List<SdkTracerProvider> providers = new ArrayList<>();
    int spans = Integer.parseInt(field(plan, "spans"));
    double seconds = Double.parseDouble(field(plan, "seconds"));
    System.out.println("ready");
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      if (line.equals("go")) {
        // Not before, so that the timers of all batch processors begin with the spans.
        List<Tracer> tracers = new ArrayList<>();
        // The plan is flat: each case is an object without others in it.
        Matcher cases = Pattern.compile("\\{[^{}]*\\}").matcher(plan.substring(1));
        while (cases.find()) {
          SpanExporter exporter = exporter(field(cases.group(), "protocol"), field(cases.group(), "endpoint"));
          SdkTracerProvider provider = provider(field(cases.group(), "name"), exporter);
          providers.add(provider);
          tracers.add(provider.get("tests/senders"));
        }
        Thread ending = new Thread(() -> endSpans(tracers, spans, seconds));
        ending.setDaemon(true);
        ending.start();
      } else if (line.equals("stop")) {
        List<CompletableResultCode> ends = new ArrayList<>();
        providers.forEach(provider -> ends.add(provider.shutdown()));
        CompletableResultCode.ofAll(ends).join(60, TimeUnit.SECONDS);
        break;
      }
    }
    Runtime.getRuntime().halt(0);
  }
}
