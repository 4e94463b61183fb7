// The client and the service of payments.proto.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const definition = loader.loadSync(`${__dirname}/payments.proto`);
module.exports = grpc.loadPackageDefinition(definition).shop;
