"""neighbours.py cut|join ADDRESS…: whether this network namespace reaches others of its own network.

A permanent ARP entry with a hardware address that nobody has: frames leave and arrive nowhere, as with a broken switch. A
route would not do: the kernel tells a sender of an unreachable or blackholed address at once. See arp(7).
"""

import errno
import fcntl
import socket
import struct
import sys

SIOCDARP, SIOCSARP = 0x8953, 0x8955
ATF_COM, ATF_PERM = 0x02, 0x04
NOBODY = bytes.fromhex("020000000000")

verb, *addresses = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    for address in addresses:
        protocol = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        hardware = struct.pack("=H6s8x", 1, NOBODY)
        # Without netmask and device: the kernel takes the device that the address is reached by.
        request = protocol + hardware + struct.pack("=i16x16x", ATF_COM | ATF_PERM)
        try:
            fcntl.ioctl(any_socket, SIOCSARP if verb == "cut" else SIOCDARP, request)
        except OSError as error:
            # Joining what a restart has joined already.
            if verb == "cut" or error.errno not in (errno.ENXIO, errno.ENETUNREACH):
                raise
