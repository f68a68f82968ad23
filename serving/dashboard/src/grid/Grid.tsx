/**
 * The grid of widgets. While the layout is edited, each widget can be dragged by its handle and
 * resized by its corner; the same is possible with buttons and with the arrow keys.
 */
import { useRef } from "preact/hooks";
import { announce, changeView, isEditing, view } from "../state/store";
import { Widget, widgetTitle } from "../widgets/registry";
import { AddWidget } from "./AddWidget";
import { EditBar } from "./EditBar";
import { COLUMNS, GAP_PIXELS, type Item, move, remove, resize, ROW_PIXELS } from "./layout";

export function Grid({ layout }: { layout: Item[] }) {
  const root = useRef<HTMLDivElement>(null);
  const editing = isEditing.value;
  return (
    <>
      {editing && <AddWidget layout={layout} />}
      {layout.length === 0 && !editing && (
        <div class="state">
          <p class="state-title">There are no widgets here</p>
          <button type="button" class="button" onClick={() => (isEditing.value = true)}>
            Add widgets
          </button>
        </div>
      )}
      <div class="grid" ref={root} data-editing={editing ? "" : undefined}>
        {layout.map((item, place) => (
          <Cell key={item.id} item={item} place={place} layout={layout} root={root} isEditing={editing} />
        ))}
      </div>
    </>
  );
}

interface CellProps {
  item: Item;
  place: number;
  layout: Item[];
  root: { current: HTMLDivElement | null };
  isEditing: boolean;
}

function Cell({ item, place, layout, root, isEditing }: CellProps) {
  const element = useRef<HTMLElement>(null);
  const title = widgetTitle(item);
  const style = { "--w": String(item.width), "--h": String(item.height) };

  const moveTo = (to: number) => {
    const after = move(layout, item.id, to);
    const now = after.findIndex((other) => other.id === item.id);
    changeView({ layout: after }, true);
    announce(`${title}: place ${now + 1} of ${after.length}`);
  };
  const resizeBy = (width: number, height: number) => {
    const after = resize(layout, item.id, item.width + width, item.height + height);
    const { width: w, height: h } = after.find((other) => other.id === item.id)!;
    changeView({ layout: after }, true);
    announce(`${title}: ${w} columns wide, ${h} rows high`);
  };
  const takeAway = () => {
    const next = element.current?.nextElementSibling ?? element.current?.previousElementSibling;
    next?.querySelector<HTMLElement>(".grip")?.focus();
    changeView({ layout: remove(layout, item.id) });
    announce(`${title} removed`);
  };

  return (
    <section
      ref={element}
      class="cell"
      style={style}
      data-type={item.type}
      data-size={item.width > 6 ? "wide" : item.width > 3 ? "half" : "small"}
      data-id={item.id}
      aria-label={title}
    >
      <Widget item={item} />
      {isEditing && (
        <>
          <EditBar
            title={title}
            isFirst={place === 0}
            isLast={place === layout.length - 1}
            onMove={(by) => moveTo(place + by)}
            onResize={resizeBy}
            onRemove={takeAway}
            onDragStart={(event) => startDrag(event, item, element.current!, root.current!)}
          />
          <div
            class="corner"
            aria-hidden="true"
            onPointerDown={(event) => startResize(event, item, element.current!, root.current!)}
          />
        </>
      )}
    </section>
  );
}

/** Follows the pointer: the dragged widget takes the place of the one that it is over. */
function startDrag(event: PointerEvent, item: Item, cell: HTMLElement, root: HTMLElement): void {
  if (event.button !== 0) return;
  event.preventDefault();
  (event.currentTarget as HTMLElement).focus();
  cell.dataset.dragged = "";
  const onMove = (pointed: PointerEvent) => {
    const under = document
      .elementsFromPoint(pointed.clientX, pointed.clientY)
      .map((one) => one.closest<HTMLElement>(".cell"))
      .find((one) => one && one !== cell && root.contains(one));
    if (!under) return;
    const box = under.getBoundingClientRect();
    // A place changes only past the middle, so that two widgets do not swap to and fro.
    const cells = [...root.querySelectorAll<HTMLElement>(".cell")];
    const from = cells.indexOf(cell);
    const to = cells.indexOf(under);
    const isSameRow = Math.abs(box.top - cell.getBoundingClientRect().top) < ROW_PIXELS / 2;
    const middle = isSameRow ? box.left + box.width / 2 : box.top + box.height / 2;
    const pointer = isSameRow ? pointed.clientX : pointed.clientY;
    if (to > from ? pointer < middle : pointer > middle) return;
    changeView({ layout: move(currentLayout(), item.id, to) }, true);
  };
  follow(onMove, () => delete cell.dataset.dragged);
}

function startResize(event: PointerEvent, item: Item, cell: HTMLElement, root: HTMLElement): void {
  if (event.button !== 0) return;
  event.preventDefault();
  const box = cell.getBoundingClientRect();
  const columns = getComputedStyle(root).gridTemplateColumns.split(" ").length;
  const step = (root.clientWidth + GAP_PIXELS) / columns;
  const onMove = (pointed: PointerEvent) => {
    const width = Math.round((pointed.clientX - box.left + GAP_PIXELS) / step);
    const height = Math.round((pointed.clientY - box.top + GAP_PIXELS) / (ROW_PIXELS + GAP_PIXELS));
    // A narrow screen has fewer columns: there the drag changes the height only.
    changeView({ layout: resize(currentLayout(), item.id, columns === COLUMNS ? width : item.width, height) }, true);
  };
  follow(onMove, () => undefined);
}

function follow(onMove: (event: PointerEvent) => void, onEnd: () => void): void {
  const end = () => {
    removeEventListener("pointermove", onMove);
    removeEventListener("pointerup", end);
    removeEventListener("pointercancel", end);
    onEnd();
  };
  addEventListener("pointermove", onMove);
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}

function currentLayout(): Item[] {
  return view.peek().layout;
}
