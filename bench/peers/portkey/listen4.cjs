// Portkey's gateway listens on "::" only: on machines without IPv6 it would not start.
const net = require("node:net");
const { listen } = net.Server.prototype;
net.Server.prototype.listen = function (first, ...rest) {
  if (first && typeof first === "object") return listen.call(this, { ...first, host: "127.0.0.1" }, ...rest);
  if (typeof rest[0] === "string") rest.shift();
  return listen.call(this, first, "127.0.0.1", ...rest);
};
