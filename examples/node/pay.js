// Payments over gRPC: charges for an order, and streams how its delivery goes on.
const grpc = require("@grpc/grpc-js");
const { Payments } = require("./payments.js");

const server = new grpc.Server();
server.addService(Payments.service, {
  pay({ request: { order } }, done) {
    if (order === "declined") done({ code: grpc.status.UNAVAILABLE, details: "the bank is not there" });
    else done(null, { order });
  },
  follow(call) {
    for (const step of ["packed", "sent", "delivered"]) call.write({ step });
    call.end();
  },
});
server.bindAsync(process.env.LISTEN, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
process.on("SIGTERM", () => server.tryShutdown(() => {}));
