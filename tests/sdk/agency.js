// Calls GHL for one location of an agency with GHL's official SDK: node agency.js <base URL> <key> <company> <location>
// Prints the results as one JSON object.

const { HighLevel } = require('@gohighlevel/api-client');

const [base, key, companyId, locationId] = process.argv.slice(2);

async function main() {
  const ghl = new HighLevel({ privateIntegrationToken: key, logLevel: 'none' });
  // Besides the key, the only difference to a program that calls GHL directly, except for the header below.
  ghl.getHttpClient().defaults.baseURL = base;

  // Ten operations that name their location or their company themselves.
  const { contacts, products, locations, companies } = ghl;
  const created = await contacts.createContact({ locationId, email: 'sdk@example.com' });
  const upserted = await contacts.upsertContact({
    locationId,
    email: 'sdk@example.com',
    firstName: 'Nora',
  });
  const filter = { field: 'email', operator: 'eq', value: 'sdk@example.com' };
  const found = await contacts.searchContactsAdvanced({
    locationId,
    page: 1,
    pageLimit: 10,
    filters: [filter],
  });
  const kind = { locationId, productType: 'DIGITAL' };
  const product = await products.createProduct({ ...kind, name: 'from the SDK' });
  const productId = product._id;
  const renamed = await products.updateProductById({ productId }, { ...kind, name: 'renamed' });
  const shown = await products.getProductById({ productId, locationId });
  const listed = await products.listInvoices({ locationId }); // The SDK's name for the list of products.
  const location = await locations.getLocation({ locationId });
  const all = await locations.searchLocations({ companyId });
  const company = await companies.getCompany({ companyId });

  // Operations that name neither. GHL takes the location from the token, so a header names it for the gateway.
  const contactId = created.contact.id;
  const headers = { locationId };
  const form = new FormData();
  form.append('name', 'note');
  form.append('file', new Blob(['hello'], { type: 'text/plain' }), 'note.txt');
  const upload = { headers: { ...headers, 'Content-Type': 'multipart/form-data' } };
  const media = await ghl.medias.uploadMediaContent(form, upload);
  await contacts.updateContact({ contactId }, { lastName: 'North' }, { headers });
  const updated = await contacts.getContact({ contactId }, { headers });
  const deleted = await contacts.deleteContact({ contactId }, { headers });

  console.log(
    JSON.stringify({
      createContact: created.contact.email,
      upsertContact: [upserted.new, upserted.contact.id === contactId],
      searchContacts: found.contacts.map((contact) => contact.firstName),
      createProduct: product.name,
      updateProduct: renamed.name,
      getProduct: shown.name,
      listProducts: listed.products.map((product) => product.name),
      getLocation: location.location.id,
      searchLocations: all.locations.length,
      getCompany: company.company.id,
      uploadMedia: typeof media.fileId,
      getContact: [updated.contact.firstName, updated.contact.lastName],
      deleteContact: deleted.succeded,
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
