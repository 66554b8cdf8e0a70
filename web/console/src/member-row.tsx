import type { Member } from '@roomwire/sdk'
import { Avatar } from './avatar.js'
import { Icon, type IconName } from './icons.js'

interface MemberRowProps {
  readonly member: Member
  /** Removed, and visible for a moment. */
  readonly leaving: boolean
}

export function MemberRow({ member, leaving }: MemberRowProps) {
  const marks = marksOf(member)
  return (
    <li
      className={leaving ? 'member leaving' : 'member'}
      // A removed member is not in the room any more.
      {...(leaving ? { 'aria-hidden': true } : { 'data-testid': 'member', 'data-user-id': member.userId })}
    >
      <Avatar id={member.userId} name={member.displayName} url={member.avatarUrl} />
      <span className="member-name" title={member.displayName}>
        <bdi>{member.displayName}</bdi>
      </span>
      {marks.length > 0 && (
        <ul className="marks">
          {marks.map(mark => (
            <li
              key={mark.words}
              className={`mark-of-voice ${mark.kind}`}
              title={mark.words}
              data-mark={mark.name}
            >
              <Icon name={mark.icon} />
              <span className="unseen">{mark.words}</span>
            </li>
          ))}
        </ul>
      )}
    </li>
  )
}

interface VoiceMark {
  readonly name: string
  readonly words: string
  /** `active`: shows something; `own`: chose it; `imposed`: a moderator did. */
  readonly kind: 'active' | 'own' | 'imposed'
  readonly icon: IconName
}

/** The marks beside a name. A mark of a moderator hides the same mark of the member. */
export function marksOf(member: Member): readonly VoiceMark[] {
  const marks: VoiceMark[] = []
  if (member.selfStream) {
    marks.push({ name: 'stream', words: 'Shares the screen', kind: 'active', icon: 'screen' })
  }
  if (member.selfVideo) {
    marks.push({ name: 'video', words: 'Camera on', kind: 'active', icon: 'camera' })
  }
  if (member.suppress) {
    marks.push({ name: 'suppress', words: 'In the audience', kind: 'own', icon: 'audience' })
  }
  if (member.mute) {
    marks.push({ name: 'mute', words: 'Muted by a moderator', kind: 'imposed', icon: 'microphone-off' })
  } else if (member.selfMute) {
    marks.push({ name: 'self-mute', words: 'Muted', kind: 'own', icon: 'microphone-off' })
  }
  if (member.deaf) {
    marks.push({
      name: 'deaf',
      words: 'Deafened by a moderator',
      kind: 'imposed',
      icon: 'headphones-off',
    })
  } else if (member.selfDeaf) {
    marks.push({ name: 'self-deaf', words: 'Deafened', kind: 'own', icon: 'headphones-off' })
  }
  return marks
}
