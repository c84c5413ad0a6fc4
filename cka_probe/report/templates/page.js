// When the document is there: tables get their buttons, matrices their cells, the command its copy button.

for (const table of document.querySelectorAll(".table-item table.data")) sortable(table);

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function wake(root) {
  const held = JSON.parse(root.querySelector(".matrix-data").textContent);
  const data = held.packed ? await unpacked(held.packed) : held;
  root.matrix = new Matrix(root, data, JSON.parse(document.getElementById("scales").textContent));
}

for (const root of document.querySelectorAll(".matrix"))
  wake(root).catch(error => {
    console.error(error);
    root.querySelector(".downloads").before(make("p", {class: "note"}, `This browser shows the matrix but cannot make it interactive (${error.message}).`));
  });

const copy = document.querySelector(".copy");
if (copy) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const code = document.querySelector(".command code"), said = document.querySelector(".copied");
    try {
      await navigator.clipboard.writeText(code.textContent);
      said.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      said.textContent = "Selected: copy it with Ctrl + C";
    }
  });
}
