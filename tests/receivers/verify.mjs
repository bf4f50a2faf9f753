// Verifies messages as a receiver does. Arguments: the secret, and a file with a JSON list of `{headers, body}`.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const [secret, file] = process.argv.slice(2);
const webhook = new Webhook(secret);
const messages = JSON.parse(readFileSync(file, "utf8"));
const types = messages.map(({ headers, body }) => webhook.verify(body, headers).type);
let refused = 0;
for (const { headers, body } of messages) {
  try {
    webhook.verify(`${body} `, headers);
  } catch {
    refused += 1;
  }
}
console.log(JSON.stringify({ types, refused }));
