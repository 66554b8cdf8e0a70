/** The people of the demo. The demo's issuer asks for no password. */
export interface Person {
  readonly sub: string
  readonly name: string
  /** Words of the token's `scope`. */
  readonly scope: string
  readonly may: string
}

export const people: readonly Person[] = [
  {
    sub: 'ada',
    name: 'Ada',
    scope: 'rooms:read rooms:create rooms:end rooms:manage',
    may: 'Opens rooms, and ends any room that Roomwire made',
  },
  {
    sub: 'grace',
    name: 'Grace',
    scope: 'rooms:read rooms:create rooms:end',
    may: 'Opens rooms, and ends her own',
  },
  { sub: 'linus', name: 'Linus', scope: 'rooms:read', may: 'Watches' },
]
