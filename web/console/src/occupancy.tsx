interface OccupancyProps {
  readonly here: number
  /** 0: no limit. */
  readonly limit: number
}

/** More places than this are not drawn one by one. */
const dotsMax = 12

/** How full a room is: one dot per place if they are few, and always a text. */
export function Occupancy({ here, limit }: OccupancyProps) {
  const dots = limit <= dotsMax ? limit : 0
  return (
    <p className="occupancy">
      {dots > 0 && (
        <span className="dots" aria-hidden="true">
          {Array.from({ length: dots }, (_, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: a place is its number
            <i key={place} className={place < here ? 'taken' : undefined} />
          ))}
        </span>
      )}
      <span className="numbers">{wordsOfOccupancy(here, limit)}</span>
    </p>
  )
}

export function wordsOfOccupancy(here: number, limit: number): string {
  if (limit > 0) return here >= limit ? `${here} of ${limit}, full` : `${here} of ${limit}`
  return here === 0 ? 'empty' : `${here} here`
}
