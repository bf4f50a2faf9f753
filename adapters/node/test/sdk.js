// Calls GHL with its official SDK and evergreen's tokens:
// node test/sdk.js <evergreen's internal URL> <key> <GHL's URL> <location>
// Prints the results as one JSON object. GHL must be the sandbox.

const { HighLevel } = require('@gohighlevel/api-client');
const { EvergreenSessionStorage } = require('..');

const [url, key, sandbox, locationId] = process.argv.slice(2);

// Also for the SDK's own token calls, so that the sandbox would count them.
HighLevel.BASE_URL = sandbox;

function client(storage) {
  const credentials = { clientId: 'unused', clientSecret: 'unused' };
  return new HighLevel({ ...credentials, sessionStorage: storage, logLevel: 'none' });
}

/** Lets the token expire at GHL before its time. */
async function expire() {
  const body = JSON.stringify({ locationId });
  const headers = { 'content-type': 'application/json' };
  const expired = await fetch(`${sandbox}/_sandbox/expire`, { method: 'POST', headers, body });
  if (!expired.ok) throw new Error(await expired.text());
}

const failure = (call) => call.then(() => null, ({ statusCode, message }) => ({ statusCode, message }));

async function main() {
  const storage = new EvergreenSessionStorage({ url, key });
  const ghl = storage.attach(client(storage));
  const detached = client(storage);

  for (const name of ['a', 'b', 'c']) {
    await ghl.contacts.createContact({ locationId, email: `${name}@example.com` });
  }
  const first = await ghl.contacts.getContacts({ locationId, limit: 2 });
  const { startAfter, startAfterId } = first.meta;
  const second = await ghl.contacts.getContacts({ locationId, limit: 2, startAfter, startAfterId });

  await expire();
  const refused = await failure(detached.contacts.getContacts({ locationId }));

  // All at once: a call with the location in its body, in its query, and in a header.
  const form = new FormData();
  form.append('name', 'note');
  form.append('file', new Blob(['hello'], { type: 'text/plain' }), 'note.txt');
  const upload = { headers: { locationId, 'Content-Type': 'multipart/form-data' } };
  const [created, listed, media] = await Promise.all([
    ghl.contacts.createContact({ locationId, email: 'd@example.com' }),
    ghl.contacts.getContacts({ locationId }),
    ghl.medias.uploadMediaContent(form, upload),
  ]);
  const files = await ghl.medias.fetchMediaContent({
    ...{ altId: locationId, altType: 'location', type: 'file', sortBy: 'createdAt', sortOrder: 'asc' },
  }, { headers: { locationId } });

  console.log(
    JSON.stringify({
      pages: [first, second].map(({ contacts }) => contacts.map(({ email }) => email)),
      refusedWithoutAttach: refused,
      created: created.contact.email,
      listed: listed.contacts.length > 2,
      media: files.files.map(({ _id, name }) => [_id === media.fileId, name]),
      refreshToken: await storage.getRefreshToken(locationId),
      setSession: await failure(storage.setSession(locationId, { access_token: 'x' })),
      unknownLocation: await failure(storage.getSession('nowhere')),
      callForUnknownLocation: await failure(ghl.contacts.getContacts({ locationId: 'nowhere' })),
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
