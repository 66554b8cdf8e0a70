import type { Invite, Room } from '@roomwire/sdk'
import { useRoomActions } from '@roomwire/sdk/react'
import { useRef, useState } from 'react'
import { wordsOfTime } from './clock.js'
import { Icon } from './icons.js'
import { ProblemNote } from './problem-note.js'

/** The steps of inviting somebody. */
type Inviting = 'idle' | 'under-way' | { readonly invite: Invite } | { readonly problem: unknown }

/** A button that creates an invite, and a panel with its link. */
export function useInvite(room: Room, name: string) {
  const { createInvite } = useRoomActions()
  const [inviting, setInviting] = useState<Inviting>('idle')
  const busy = inviting === 'under-way'
  const button = useRef<HTMLButtonElement>(null)

  async function invite() {
    setInviting('under-way')
    try {
      setInviting({ invite: await createInvite(room.channelId) })
    } catch (problem) {
      setInviting({ problem })
    }
  }

  function dismiss() {
    setInviting('idle')
    button.current?.focus()
  }

  return {
    button: (
      <button
        ref={button}
        type="button"
        className="quiet small"
        data-testid="invite"
        // Not `disabled`, which would remove the focus.
        onClick={busy ? undefined : () => void invite()}
        aria-disabled={busy}
        aria-label={`Invite to ${name}`}
      >
        <Icon name="invite" />
        {busy ? 'Inviting…' : 'Invite'}
      </button>
    ),
    panel:
      typeof inviting !== 'object' ? null : 'invite' in inviting ? (
        <InvitePanel key={inviting.invite.code} invite={inviting.invite} name={name} onDismiss={dismiss} />
      ) : (
        <ProblemNote problem={inviting.problem} onDismiss={dismiss} takesFocus />
      ),
  }
}

interface InvitePanelProps {
  readonly invite: Invite
  readonly name: string
  readonly onDismiss: () => void
}

function InvitePanel({ invite, name, onDismiss }: InvitePanelProps) {
  const [copied, setCopied] = useState<'copied' | 'refused' | null>(null)
  const field = useRef<HTMLInputElement>(null)

  async function copy() {
    try {
      await navigator.clipboard.writeText(invite.url)
      setCopied('copied')
    } catch {
      // A page over http has no clipboard, and a browser may refuse it.
      field.current?.select()
      setCopied('refused')
    }
  }

  return (
    <div className="invite">
      <div className="invite-link">
        <input
          ref={field}
          readOnly
          data-testid="invite-url"
          value={invite.url}
          onFocus={event => event.target.select()}
          aria-label={`Invite to ${name}`}
        />
        <button
          type="button"
          className="primary small"
          data-testid="invite-copy"
          onClick={() => void copy()}
          // biome-ignore lint/a11y/noAutofocus: the link follows a click on "invite"
          autoFocus
        >
          {copied === 'copied' ? 'Copied' : 'Copy'}
        </button>
        <button
          type="button"
          className="quiet round"
          data-testid="invite-dismiss"
          onClick={onDismiss}
          aria-label="Dismiss"
          title="Dismiss"
        >
          <Icon name="cross" />
        </button>
      </div>
      <p className="hint" aria-live="polite">
        {copied === 'refused'
          ? 'Copy the marked link yourself: the browser does not allow it.'
          : wordsOfEnd(invite)}
      </p>
    </div>
  )
}

function wordsOfEnd({ expiresAt }: Invite): string {
  return expiresAt === undefined
    ? 'It does not expire.'
    : `Valid until ${wordsOfTime(expiresAt, Date.now())}.`
}
