// Checks resources of the Prometheus operator in a JSON array on the standard input. Prints how many there are. It finds
// values of a wrong type, and missing ones, but no unknown names.
import { readFileSync } from "node:fs";
import * as operator from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const documents = JSON.parse(readFileSync(0, "utf8"));
const found = documents.filter((document) => document?.apiVersion === "monitoring.coreos.com/v1");
for (const document of found) {
  new operator[document.kind](document).validate();
}
console.log(found.length);
