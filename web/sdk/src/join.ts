/** Discord's link to a room. An earlier hub does not send it. */
export function joinUrlOf(guildId: string, channelId: string): string {
  return `https://discord.com/channels/${guildId}/${channelId}`
}
