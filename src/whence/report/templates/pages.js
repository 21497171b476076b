// Pages of documents: unpacked when their question is opened, kept from then on.

const pages = new Map();

/** The documents of one question, {raises, lowers, layers, groups}; rejected where the browser cannot inflate. */
function openPage(id) {
  if (!pages.has(id)) pages.set(id, unpack(find(`#${id}`).textContent));
  return pages.get(id);
}

async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

/** Whole numbers of a step, back as values. */
const values = (steps) => steps.values.map((count) => count * (steps.step ?? 0));
