/** The systemd unit of a daemon: what it may do and see is what it needs, and nothing more. */

export interface UnitOptions {
  /** Absolute path of the folder of job files. */
  readonly folder: string
  /** The command line up to `daemon`: absolute path of Node and of bin/run.js. */
  readonly program: readonly string[]
  readonly listen: string
  /** undefined: the daemon takes no pushes. */
  readonly push?: string
  /** undefined: a user that exists only while the unit runs. */
  readonly user?: string
  /** File with the token, read by systemd and shown to the daemon alone. */
  readonly token?: string
  /** Folders outside of the state directory in which jobs write. */
  readonly write: readonly string[]
  /** Addresses of sources and stores: networks, or words such as `any`. */
  readonly allow: readonly string[]
}

export function systemdUnit({ folder, program, listen, push, user, token, write, allow }: UnitOptions): string {
  const command = [
    ...program,
    'daemon',
    folder,
    `--listen=${listen}`,
    ...(push === undefined ? [] : [`--push=${push}`]),
    '--log-format=json',
    ...(token === undefined ? [] : ['--token-file=%d/adflow-token']),
  ]
  return [
    section('Unit', [
      'Description=adflow: jobs at their times',
      'Wants=network-online.target',
      'After=network-online.target',
      'StartLimitIntervalSec=0',
    ]),
    section('Service', [
      'Type=notify',
      '# systemd-notify is another process than the daemon.',
      'NotifyAccess=all',
      `ExecStart=${command.map(word).join(' ')}`,
      `WorkingDirectory=${path(folder)}`,
      'EnvironmentFile=-/etc/adflow/environment',
      '# Fed by rounds of the scheduler, and by nothing else.',
      'WatchdogSec=60',
      'Restart=always',
      'RestartSec=2',
      '# The first SIGTERM is for the daemon alone: it tells its runs, and waits for them up to 25 s.',
      'KillMode=mixed',
      'KillSignal=SIGTERM',
      'TimeoutStopSec=30',
      '# A run that fills the memory costs that run.',
      'OOMPolicy=continue',
      'StateDirectory=adflow',
      'StateDirectoryMode=0700',
      'UMask=0077',
      ...(user === undefined ? ['DynamicUser=yes'] : [`User=${user}`]),
      ...(token === undefined ? [] : [`LoadCredential=adflow-token:${path(token)}`]),
      ...write.map((each) => `ReadWritePaths=${path(each)}`),
      '',
      ...HARDENING,
      '',
      '# Addresses of sources and stores; all others are out of reach.',
      'IPAddressDeny=any',
      `IPAddressAllow=${['localhost', ...allow].join(' ')}`,
    ]),
    section('Install', ['WantedBy=multi-user.target']),
  ].join('\n')
}

/** `MemoryDenyWriteExecute` is not among them: V8 compiles. Nor is `ProcSubset=pid`: daemons tell their boot by /proc/sys. */
const HARDENING = [
  'NoNewPrivileges=yes',
  'CapabilityBoundingSet=',
  'AmbientCapabilities=',
  'ProtectSystem=strict',
  'ProtectHome=yes',
  'PrivateTmp=yes',
  'PrivateDevices=yes',
  'PrivateUsers=yes',
  'PrivateMounts=yes',
  'ProtectClock=yes',
  'ProtectControlGroups=yes',
  'ProtectHostname=yes',
  'ProtectKernelLogs=yes',
  'ProtectKernelModules=yes',
  'ProtectKernelTunables=yes',
  'ProtectProc=invisible',
  'DevicePolicy=closed',
  'LockPersonality=yes',
  'RemoveIPC=yes',
  'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service',
  'SystemCallFilter=~@privileged @resources',
  'SystemCallErrorNumber=EPERM',
  'LimitCORE=0',
]

function section(name: string, lines: readonly string[]): string {
  return `[${name}]\n${lines.join('\n')}\n`
}

/** A word of a command line, as systemd reads it; `%d` at its place is ours. */
function word(text: string): string {
  const safe = text.startsWith('--token-file=%d/') ? text : text.replaceAll('%', '%%')
  return /^[\w@%+=:,./-]+$/.test(safe)
    ? safe
    : `"${safe.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('$', '$$$$')}"`
}

function path(text: string): string {
  return text.replaceAll('%', '%%').replaceAll(' ', '\\x20')
}
