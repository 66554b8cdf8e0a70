"use client";
import { useConnection, useRooms } from "@roomwire/sdk/react";

export function Rooms() {
  const rooms = useRooms();
  const connection = useConnection();
  return (
    <p>
      {connection.state}, {rooms.length} rooms
    </p>
  );
}
