// Tables that sort: a button in every heading, the direction in aria-sort, missing values always last.

const collator = new Intl.Collator("en", {numeric: true});

function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const status = make("span", {class: "visually-hidden", role: "status"});
  table.closest(".table-item").append(status);
  headings.forEach((heading, column) => {
    const title = heading.textContent;
    const button = make("button", {type: "button"}, title);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      const rows = [...body.rows].sort((one, other) => order(one.cells[column], other.cells[column], descending));
      body.append(...rows);
      headings.forEach(each => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      status.textContent = `Sorted by ${title}, ${descending ? "descending" : "ascending"}`;
    });
  });
}

function order(one, other, descending) {
  const [first, second] = [one, other].map(cell => cell.dataset.key);
  if (first === "" || second === "") return (first === "") - (second === "");
  const difference =
    first !== undefined && second !== undefined
      ? Number(first) - Number(second) || 0
      : collator.compare(one.textContent, other.textContent);
  return descending ? -difference : difference;
}
