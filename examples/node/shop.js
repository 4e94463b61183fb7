// The shop: takes an order, and asks `stock` for it.
const express = require("express");

const app = express();

app.get("/ready", (_request, response) => response.send("ready"));

async function askStock(request, response) {
  try {
    const answer = await fetch(process.env.STOCK_URL + request.path, { signal: AbortSignal.timeout(3000) });
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
