"""What the tools of three Macs print, for the parsers.

None of this was recorded by us: no Mac was at hand. Each text has the form that Apple's manual pages describe and that
users of such models have published; names, addresses and figures are made up.
"""

from __future__ import annotations

STUDIO = {  # a Mac Studio, M2 Ultra, 64 GB: 10 Gbit/s Ethernet, Wi-Fi, a bridge over six Thunderbolt ports
    "sysctl": """hw.memsize: 68719476736
machdep.cpu.brand_string: Apple M2 Ultra
iogpu.wired_limit_mb: 0
kern.memorystatus_vm_pressure_level: 1
""",
    "vm_stat": """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                             2321451.
Pages active:                            620318.
Pages inactive:                          601922.
Pages speculative:                        16022.
Pages throttled:                              0.
Pages wired down:                        224551.
Pages purgeable:                           5210.
"Translation faults":                 419483120.
Pages copy-on-write:                   10482391.
Pages zero filled:                    289910021.
Pages reactivated:                       124011.
Pages purged:                            331022.
File-backed pages:                       481020.
Anonymous pages:                         757242.
Pages stored in compressor:                   0.
Pages occupied by compressor:                 0.
Decompressions:                               0.
Compressions:                                 0.
Pageins:                                3021198.
Pageouts:                                     0.
Swapins:                                      0.
Swapouts:                                     0.
""",
    "pmset": """System-wide power settings:
Currently in use:
 autorestart          1
 Sleep On Power Button 1
 autorestartatconnect 0
 tcpkeepalive         1
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                0
 ttyskeepawake        1
 displaysleep         10
 womp                 1
""",
    "battery": "Now drawing from 'AC Power'\n",
    "ifconfig": """lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>
\tinet 127.0.0.1 netmask 0xff000000
\tinet6 ::1 prefixlen 128
\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1
\tnd6 options=201<PERFORMNUD,DAD>
gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280
anpi0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=400<CHANNEL_IO>
\tether 4e:aa:bb:00:00:01
\tmedia: none
\tstatus: inactive
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=567<RXCSUM,TXCSUM,VLAN_MTU,TSO4,TSO6,AV,CHANNEL_IO>
\tether 9c:aa:bb:00:00:02
\tinet6 fe80::1c9d:22aa:3bcd:77ef%en0 prefixlen 64 secured scopeid 0xd
\tinet 10.0.0.21 netmask 0xffffff00 broadcast 10.0.0.255
\tnd6 options=201<PERFORMNUD,DAD>
\tmedia: autoselect (10Gbase-T <full-duplex,flow-control>)
\tstatus: active
en2: flags=8963<UP,BROADCAST,SMART,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
\toptions=460<TSO4,TSO6,CHANNEL_IO>
\tether 36:aa:bb:00:00:40
\tmedia: autoselect <full-duplex>
\tstatus: active
bridge0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=63<RXCSUM,TXCSUM,TSO4,TSO6>
\tether 36:aa:bb:00:00:40
\tinet 192.168.101.1 netmask 0xffffff00 broadcast 192.168.101.255
\tConfiguration:
\t\tid 0:0:0:0:0:0 priority 0 hellotime 0 fwddelay 0
\tmember: en2 flags=3<LEARNING,DISCOVER>
\t        ifmaxaddr 0 port 8 priority 0 path cost 0
\tnd6 options=201<PERFORMNUD,DAD>
\tmedia: <unknown type>
\tstatus: active
en1: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=6460<TSO4,TSO6,CHANNEL_IO,PARTIAL_CSUM,ZEROINVERT_CSUM>
\tether 9c:aa:bb:00:00:03
\tinet 10.0.0.121 netmask 0xffffff00 broadcast 10.0.0.255
\tmedia: autoselect
\tstatus: active
utun3: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1280
\tinet 100.64.0.7 --> 100.64.0.7 netmask 0xffffffff
""",
    "ports": """
Hardware Port: Ethernet
Device: en0
Ethernet Address: 9c:aa:bb:00:00:02

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 36:aa:bb:00:00:40

Hardware Port: Wi-Fi
Device: en1
Ethernet Address: 9c:aa:bb:00:00:03

Hardware Port: Thunderbolt 1
Device: en2
Ethernet Address: 36:aa:bb:00:00:40

VLAN Configurations
===================
""",
}

LAPTOP = {  # a 16-inch MacBook Pro, M3 Max, 48 GB, on battery in low-power mode, Wi-Fi only, memory getting short
    "sysctl": """hw.memsize: 51539607552
machdep.cpu.brand_string: Apple M3 Max
iogpu.wired_limit_mb: 40960
kern.memorystatus_vm_pressure_level: 2
""",
    "vm_stat": """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                9120.
Pages active:                           1040112.
Pages inactive:                          390020.
Pages speculative:                          900.
Pages throttled:                              0.
Pages wired down:                        420210.
Pages purgeable:                            120.
""",
    "pmset": """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by powerd, caffeinate, sharingd)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         2
 tcpkeepalive         1
 lowpowermode         1
 womp                 0
""",
    "battery": """Now drawing from 'Battery Power'
 -InternalBattery-0 (id=12345678)\t81%; discharging; 6:12 remaining present: true
""",
    "ifconfig": """lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
en0: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\toptions=6460<TSO4,TSO6,CHANNEL_IO,PARTIAL_CSUM,ZEROINVERT_CSUM>
\tether bc:aa:bb:00:00:01
\tinet 10.0.0.30 netmask 0xffffff00 broadcast 10.0.0.255
\tinet6 2001:db8::30 prefixlen 64 autoconf secured
\tmedia: autoselect
\tstatus: active
awdl0: flags=8943<UP,BROADCAST,RUNNING,PROMISC,SIMPLEX,MULTICAST> mtu 1500
\tether 52:aa:bb:00:00:05
\tmedia: autoselect
\tstatus: active
""",
    "ports": """
Hardware Port: Wi-Fi
Device: en0
Ethernet Address: bc:aa:bb:00:00:01

Hardware Port: Thunderbolt Bridge
Device: bridge0
Ethernet Address: 36:aa:bb:00:00:00
""",
}

MINI = {  # a Mac mini, M4, 16 GB, with a network adapter, settings that let it sleep, and memory at its end
    "sysctl": """hw.memsize: 17179869184
machdep.cpu.brand_string: Apple M4
iogpu.wired_limit_mb: 15872
kern.memorystatus_vm_pressure_level: 4
""",
    "vm_stat": """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                              300000.
Pages active:                            220000.
Pages inactive:                          200000.
Pages speculative:                         4000.
Pages throttled:                              0.
Pages wired down:                        150000.
Pages purgeable:                           1000.
""",
    "pmset": """System-wide power settings:
Currently in use:
 autorestart          0
 powernap             1
 disksleep            10
 sleep                15
 ttyskeepawake        1
 displaysleep         10
 womp                 1
""",
    "battery": "Now drawing from 'AC Power'\n",
    "ifconfig": """lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384
\tinet 127.0.0.1 netmask 0xff000000
en7: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tinet 10.0.0.40 netmask 0xffffff00 broadcast 10.0.0.255
\tmedia: autoselect (2500Base-T <full-duplex>)
\tstatus: active
en2: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 1500
\tinet 169.254.11.12 netmask 0xffff0000 broadcast 169.254.255.255
\tstatus: active
""",
    "ports": """
Hardware Port: USB 10/100/1G/2.5G LAN
Device: en7
Ethernet Address: 00:aa:bb:00:00:01

Hardware Port: Thunderbolt 1
Device: en2
Ethernet Address: 36:aa:bb:00:00:40
""",
}
