"""A bot on discord.py. Writes what it sees to standard output, and reads commands from standard input: one
JSON object per line."""

import asyncio
import json
import sys

import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

ADDRESS = sys.argv[1]
# The library has no setting for either.
Route.BASE = f"http://{ADDRESS}/api/v10"
DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(f"ws://{ADDRESS}/")


def say(saw, **more):
    print(json.dumps({"saw": saw, **more}), flush=True)


def place(state):
    return state.channel.name if state.channel else None


class Bot(discord.Client):
    async def on_ready(self):
        guild = self.guilds[0]
        names = sorted(channel.name for channel in guild.channels)
        say("ready", version=discord.__version__, user=self.user.name, guild=guild.name, channels=names)

    async def on_voice_state_update(self, member, before, after):
        say("voice", name=member.display_name, before=place(before), after=place(after), selfMute=after.self_mute)

    async def on_guild_channel_create(self, channel):
        say("created", name=channel.name, limit=channel.user_limit)

    async def on_guild_channel_update(self, _, channel):
        say("updated", name=channel.name, limit=getattr(channel, "user_limit", None))

    async def on_guild_channel_delete(self, channel):
        say("deleted", name=channel.name)

    async def on_resumed(self):
        say("resumed")

    async def on_guild_unavailable(self, _):
        say("unavailable")

    async def on_guild_available(self, _):
        say("available")

    async def obey(self, wish):
        guild = self.guilds[0]
        try:
            if wish["do"] == "create":
                channel = await guild.create_voice_channel(wish["name"], user_limit=3, reason="Für den Test")
                await channel.edit(user_limit=5)
                await channel.delete(reason="done")
                say("did")
            elif wish["do"] == "refused":
                await guild.create_voice_channel("x" * 101)
            elif wish["do"] == "commands":
                await self.application_info()
                tree = discord.app_commands.CommandTree(self)

                @tree.command(name="room", description="Voice rooms", guild=guild)
                async def room(interaction):
                    await interaction.response.send_message("Hello")

                commands = await tree.sync(guild=guild)
                say("commands", names=[command.name for command in commands])
        except discord.HTTPException as error:
            say("refused", code=error.code, status=error.status)


async def main():
    intents = discord.Intents.none()
    intents.guilds = True
    intents.voice_states = True
    bot = Bot(intents=intents)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def listen():
        while line := await lines.readline():
            await bot.obey(json.loads(line))

    listening = asyncio.create_task(listen())
    await bot.start("sim-token")
    listening.cancel()


asyncio.run(main())
