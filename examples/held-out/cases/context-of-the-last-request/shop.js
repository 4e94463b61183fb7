// The shop: takes an order, and asks `stock` for it.
const express = require("express");
const { context } = require("@opentelemetry/api");

const app = express();

app.get("/ready", (_request, response) => response.send("ready"));

app.use((request, _response, next) => {
  request.active = context.active();
  next();
});

// Orders go on in pairs, and one that is alone does so after half a second.
let waiting;
function pair() {
  if (waiting) return waiting();
  return new Promise((resolve) => {
    const goOn = () => {
      clearTimeout(alone);
      waiting = undefined;
      resolve();
    };
    const alone = setTimeout(goOn, 500);
    waiting = goOn;
  });
}

async function askStock(request, response) {
  try {
    await pair();
    const ask = () => fetch(process.env.STOCK_URL + request.path, { signal: AbortSignal.timeout(1000) });
    const answer = await context.with(request.active, ask);
    await answer.arrayBuffer(); // Read to its end, so that the connection is used again.
    response.sendStatus(answer.ok ? 200 : 502);
  } catch (error) {
    response.status(error.name === "TimeoutError" ? 504 : 502).json({ error: error.message });
  }
}

app.get("/orders/:order", askStock);
app.get("/deliveries/:order", askStock);

const server = app.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close());
