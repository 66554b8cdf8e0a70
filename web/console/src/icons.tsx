/** Drawn on 24 by 24 units. */
const drawings = {
  speaker: 'M5 9.500v5h3.500l4.5 4v-13l-4.5 4zM16.5 9a4.2 4.2 0 0 1 0 6M19 6.500a7.8 7.8 0 0 1 0 11',
  'microphone-off':
    'M9.5 6.200a2.5 2.5 0 0 1 5-.2v5c0 .4-.1.7-.2 1M9.5 10v1a2.5 2.5 0 0 0 3.2 2.400M6.5 11a5.5 5.5 0 0 0 8.7 4.500M17.5 11c0 .8-.2 1.6-.5 2.300M12 16.500V20M9 20h6M4 4l16 16',
  'headphones-off':
    'M4.5 17v-4.500a7.5 7.5 0 0 1 1.8-4.900M9 5.600a7.5 7.5 0 0 1 10.5 6.900V15M4.5 14h2a1 1 0 0 1 1 1v3a1 1 0 0 1-1 1h-1a1 1 0 0 1-1-1zM16.5 16.500V18a1 1 0 0 0 1 1h1M4 4l16 16',
  camera:
    'M4 8.500A1.5 1.5 0 0 1 5.5 7h7A1.5 1.5 0 0 1 14 8.500v7a1.5 1.5 0 0 1-1.5 1.500h-7A1.5 1.5 0 0 1 4 15.500zM14 11l5.5-3v8L14 13z',
  screen:
    'M4 6.500A1.5 1.5 0 0 1 5.5 5h13A1.5 1.5 0 0 1 20 6.500v8a1.5 1.5 0 0 1-1.5 1.500h-13A1.5 1.5 0 0 1 4 14.500zM9 19.500h6M12 16v3.500M12 12.500V8.500M10 10.200l2-2 2 2',
  audience: 'M12 11.500a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM6 18.500c.5-3 2.8-4.5 6-4.500s5.5 1.5 6 4.5',
  plus: 'M12 5.500v13M5.5 12h13',
  cross: 'M6.5 6.500l11 11M17.5 6.500l-11 11',
  power: 'M12 4v7.5M7.8 6.6a7 7 0 1 0 8.4 0',
  sun: 'M12 15.500a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM12 3.500v1.500M12 19v1.500M3.5 12H5M19 12h1.500M6 6l1 1M17 17l1 1M18 6l-1 1M7 17l-1 1',
  moon: 'M19 14.200A7.5 7.5 0 0 1 9.8 5a7.5 7.5 0 1 0 9.2 9.200z',
  leave: 'M10 5H6.500A1.5 1.5 0 0 0 5 6.500v11A1.5 1.5 0 0 0 6.5 19H10M15 8l4 4-4 4M19 12h-9',
  invite:
    'M10 11.500a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM4 18.500c.5-3 2.8-4.500 6-4.500s5.500 1.500 6 4.500M18.500 7v6M15.500 10h6',
  away: 'M13.500 5H19v5.500M19 5l-8 8M17 13.500v4a1.5 1.5 0 0 1-1.500 1.500h-9A1.5 1.5 0 0 1 5 17.500v-9A1.5 1.5 0 0 1 6.500 7h4',
  warning: 'M12 4.500l8.5 14.500h-17zM12 10v4M12 16.500v.1',
}

export type IconName = keyof typeof drawings

/** An icon in the colour of the text around it. It is hidden from screen readers: a text stands beside it. */
export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={drawings[name]} />
    </svg>
  )
}

/** The mark of Roomwire: a voice on a wire. */
export function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" />
      <path d="M8 13v6M13 9v14M18 12v8M23 14.500v3" />
    </svg>
  )
}
