// Calls GHL with its official SDK: node through.js <base URL> <key> <location>
// Prints the results as one JSON object.

const { HighLevel, GHLError } = require('@gohighlevel/api-client');

const [base, key, locationId] = process.argv.slice(2);

async function main() {
  const ghl = new HighLevel({ privateIntegrationToken: key, logLevel: 'none' });
  // Besides the key, the only difference to a program that calls GHL directly.
  ghl.getHttpClient().defaults.baseURL = base;

  const product = await ghl.products.createProduct({
    name: 'from the SDK',
    locationId,
    productType: 'DIGITAL',
  });
  const found = await ghl.products.getProductById({ productId: product._id, locationId });
  const contact = await ghl.contacts.createContact({ locationId, email: 'sdk@example.com' });
  // Without a location id: the key is for one installation.
  const shown = await ghl.contacts.getContact({ contactId: contact.contact.id });
  const location = await ghl.locations.getLocation({ locationId });

  const form = new FormData();
  form.append('name', 'note');
  form.append('file', new Blob(['hello'], { type: 'text/plain' }), 'note.txt');
  const headers = { 'Content-Type': 'multipart/form-data' };
  const media = await ghl.medias.uploadMediaContent(form, { headers });

  const failure = async (call) => {
    try {
      await call;
      return null;
    } catch (error) {
      const { code, statusCode, message } = error;
      return { isGhls: error instanceof GHLError, code, statusCode, message };
    }
  };
  console.log(
    JSON.stringify({
      product: found.name,
      contact: shown.contact.email,
      location: location.location.id,
      media: media.fileId,
      missing: await failure(
        ghl.products.getProductById({ productId: 'nope', locationId }),
      ),
      invalid: await failure(ghl.products.createProduct({ locationId })),
      elsewhere: await failure(ghl.locations.getLocation({ locationId: 'locB' })),
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
