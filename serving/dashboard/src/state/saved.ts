/** Views that the user saved under a name, in `localStorage`. */
import { signal } from "@preact/signals";
import { readStorage, view, writeStorage } from "./store";
import { printView } from "./url";

const NAME = "adlake.views";

export interface SavedView {
  name: string;
  /** The view as the query of an address. */
  query: string;
}

function read(): SavedView[] {
  try {
    const list: unknown = JSON.parse(readStorage(NAME) ?? "[]");
    if (!Array.isArray(list)) return [];
    return list.filter((item): item is SavedView => typeof item?.name === "string" && typeof item?.query === "string");
  } catch {
    return [];
  }
}

export const savedViews = signal<SavedView[]>(read());

function write(list: SavedView[]): void {
  savedViews.value = list;
  writeStorage(NAME, JSON.stringify(list));
}

/** A view of the same name is replaced. */
export function saveView(name: string): void {
  const { theme: _, ...shown } = view.peek();
  const query = printView({ ...shown, theme: "system" }).toString();
  const others = savedViews.peek().filter((saved) => saved.name !== name);
  write([...others, { name, query }].sort((a, b) => a.name.localeCompare(b.name)));
}

export function removeView(name: string): void {
  write(savedViews.peek().filter((saved) => saved.name !== name));
}
