/** The page's few pictures, drawn on a grid of 16; the words beside them or the label of their button say what they mean. */
const PATHS = {
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8Zm6.5 2a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z",
  shut: "M2 6.5C3.2 8.4 5.300 10 8 10s4.800-1.600 6-3.500M4 9 2.800 10.800M8 10v2.300M12 9l1.200 1.800",
  more: "M3.5 8h.01M8 8h.01M12.5 8h.01",
  close: "M4 4l8 8M12 4l-8 8",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13 9.500A5.500 5.500 0 0 1 6.500 3a5.500 5.500 0 1 0 6.500 6.500Z",
  copy: "M6 6h7v7.500H6zM3 10V2.500h7V4",
  link: "M6.500 9.500l3-3M7 4.500l1.500-1.500a3 3 0 0 1 4.500 4L11.500 8.500M9 11.500 7.500 13a3 3 0 0 1-4.500-4L4.500 7.500",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
  edit: "M3 13l.6-3L10.500 3 13 5.500 6 12.400Z",
  rail: "M2.500 3h11v10h-11zM6 3v10",
  warning: "M8 2 1.500 13.500h13ZM8 6.500v3.500M8 12h.01",
  info: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 7.500V11M8 5h.01",
} as const;

export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
