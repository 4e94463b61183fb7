// The stock: has `pay` charge for an order in one call, and follow its delivery in a stream.
const express = require("express");
const grpc = require("@grpc/grpc-js");
const { Payments } = require("./payments.js");

const app = express();
const payments = new Payments(process.env.PAY_ADDRESS, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 1500 });

app.get("/ready", (_request, response) => response.send("ready"));

app.get("/orders/:order", (request, response) => {
  payments.pay({ order: request.params.order }, deadline(), (error, payment) => {
    if (error) response.status(502).json({ error: error.message });
    else response.json(payment);
  });
});

app.get("/deliveries/:order", (request, response) => {
  const steps = [];
  payments
    .follow({ order: request.params.order }, deadline())
    .on("data", ({ step }) => steps.push(step))
    .on("error", (error) => response.status(502).json({ error: error.message }))
    .on("end", () => response.json({ steps }));
});

const server = app.listen(process.env.PORT, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => payments.close()));
