// The shop: takes an order, and asks `stock` for it.
const express = require("express");

const app = express();

app.get("/ready", (_request, response) => response.send("ready"));

async function askStock(request, response) {
  try {
    const answer = await fetch(process.env.STOCK_URL + request.path, { signal: AbortSignal.timeout(1000) });
    response.status(answer.ok ? 200 : 502).json(await answer.json());
  } catch (error) {
    response.status(error.name === "TimeoutError" ? 504 : 502).json({ error: error.message });
  }
}

app.get("/orders/:order", askStock);
app.get("/deliveries/:order", askStock);

const server = app.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close());
