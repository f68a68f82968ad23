/** Line icons on a 16 by 16 grid. They are decoration: the text beside them, or the label, speaks. */

const PATHS = {
  calendar: "M3 4.5h10v8.5H3zM3 7h10M5.5 2.5v3M10.5 2.5v3",
  compare: "M2 11l3.5-4 3 2.5L14 4M2 14h12",
  model:
    "M3 4.5a1.5 1.5 0 103 0 1.5 1.5 0 10-3 0M10 4.5a1.5 1.5 0 103 0 1.5 1.5 0 10-3 0M6.5 12a1.5 1.5 0 103 0 " +
    "1.5 1.5 0 10-3 0M4.5 6l3 4.5M11.5 6l-3 4.5",
  traffic: "M2.5 3.5h11L9.500 8.500V13l-3-1.500v-3z",
  filter: "M2.5 4h11M4.5 8h7M6.5 12h3",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M4 6l4 4 4-4",
  check: "M3 8.5l3.5 3.5L13 4.5",
  plus: "M8 3v10M3 8h10",
  share: "M6.5 9.5l3-3M7 5l1.5-1.5a2.5 2.5 0 013.5 3.5L10.5 8.5M9 11l-1.5 1.5A2.5 2.5 0 014 9l1.5-1.5",
  print: "M4.5 6V2.5h7V6M4.5 11H2.5V6h11v5h-2M4.5 9.5h7v4h-7z",
  sun:
    "M8 5.2a2.8 2.8 0 110 5.6 2.8 2.8 0 010-5.6M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6M3.4 3.4l1.1 1.1" +
    "M11.5 11.5l1.1 1.1M12.6 3.4l-1.1 1.1M4.5 11.5l-1.1 1.1",
  moon: "M13 9.5A5.5 5.5 0 116.5 3 4.5 4.5 0 0013 9.5z",
  system: "M2.5 3.5h11v7h-11zM6 13.5h4M8 10.5v3",
  bookmark: "M4 2.5h8v11l-4-3-4 3z",
  layout: "M2.5 2.5h5v6h-5zM9.5 2.5h4v3h-4zM9.5 7.5h4v6h-4zM2.5 10.5h5v3h-5z",
  user: "M8 2.5a2.5 2.5 0 110 5 2.5 2.5 0 010-5M3 13.5c.5-3 2.5-4 5-4s4.5 1 5 4",
  left: "M10 4L6 8l4 4",
  right: "M6 4l4 4-4 4",
  wider: "M2.5 8h11M5 5.5L2.5 8 5 10.5M11 5.5L13.5 8 11 10.5",
  narrower: "M2 8h4.5M14 8H9.5M4 5.5L6.5 8 4 10.5M12 5.5L9.5 8 12 10.5",
  taller: "M8 2.5v11M5.5 5L8 2.5 10.5 5M5.5 11L8 13.5 10.5 11",
  shorter: "M8 2v4.5M8 14V9.5M5.5 4L8 6.5 10.5 4M5.5 12L8 9.5 10.5 12",
  trash: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.5 8.5h6l.5-8.5M6.800 7v3.5M9.200 7v3.5",
  grip: "M6 4h.01M10 4h.01M6 8h.01M10 8h.01M6 12h.01M10 12h.01",
  table: "M2.5 3.5h11v9h-11zM2.5 6.5h11M6.5 6.5v6",
  chart: "M2.5 2.5v11h11M5 10l2.5-3 2 1.5 3-4",
  download: "M8 2.5v7.5M5 7l3 3 3-3M3 13.5h10",
  lock: "M4 7.5h8v6H4zM5.5 7.5V5.5a2.5 2.5 0 015 0v2",
  warning: "M8 2.5l6 11H2zM8 6.5v3.5M8 11.800v.1",
  inbox: "M2.5 9l2-5.5h7l2 5.5v4h-11zM2.5 9H6l.8 1.5h2.4L10 9h3.5",
  bell: "M4 11.5c1-1 1-2 1-4a3 3 0 016 0c0 2 0 3 1 4zM7 13.5h2",
  search: "M7 2.5a4.5 4.5 0 110 9 4.5 4.5 0 010-9M10.300 10.300l3.200 3.200",
  reset: "M3 8a5 5 0 105-5H4.5M6.5 1L4.5 3l2 2",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  const isGrip = name === "grip";
  return (
    <svg class={isGrip ? "icon icon-bold" : "icon"} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
