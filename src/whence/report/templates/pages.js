// Pages: unpacked when they are wanted, kept from then on.

const unpacked = new Map();

/** What a compressed page holds; rejected where the browser cannot inflate. */
function openPage(id) {
  if (!unpacked.has(id)) unpacked.set(id, unpack(find(`#${id}`).textContent));
  return unpacked.get(id);
}

async function unpack(text) {
  performance.mark("unpacked");
  const packed = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** The text page that a document of a question lies in, and the document in it. */
async function openText(number, index, chunk) {
  return (await openPage(`texts-${number}-${Math.floor(index / chunk)}`))[index % chunk];
}

/** Whole numbers of a step, back as values. */
const values = (steps) => steps.values.map((count) => count * (steps.step ?? 0));
