import { type ChildProcess, spawn } from "node:child_process";

/**
 * Kills the processes of the commands whose records lie in a folder. A shell script, because the one who runs it is a
 * process of its own that must cost next to nothing and must not depend on the runtime that just died.
 *
 * Arguments: the folder, this boot's id, then the records to look at (none: all). Standard input is the lifeline: the
 * script begins when it reaches its end. It removes the records it dealt with, and prints how many still had processes.
 *
 * A process belongs to a record when
 * - the leader lives, with the recorded start time, and it is in the leader's session or descends from it; or
 * - the leader is gone, it is in the session that the leader made, and it started later, and one of that session
 *   stands in the command's folder or writes its output (so a number that was given out anew is never taken for it); or
 * - it is recorded by pid and start time as one that left the session; or
 * - it writes to a file that was made for the command's output. (It needs no pid, so it also covers a command whose
 *   worker was killed between starting it and writing its pid down.)
 */
const script = `
dir=$1 boot=$2
shift 2
unset IFS
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- # whatever was inherited is not ours
trap '' HUP INT QUIT TERM
while read -r _; do :; done

# Sets state, parent, session and start of process $1; fails when it is gone or only waits to be reaped.
look() {
  text= start=
  { while read -r line; do text="$text $line"; done < "/proc/$1/stat"; } 2>/dev/null || return 1
  [ -n "$text" ] || return 1
  set -- \${text##*) } # the name, in parentheses, may hold anything
  state=$1 parent=$2 session=$4 start=\${20}
  [ "$state" != Z ] && [ "$state" != X ]
}
# Puts all living processes into processes, as pid, parent, session and start of each.
survey() {
  processes=
  for path in /proc/[0-9]*; do
    look "\${path#/proc/}" && processes="$processes \${path#/proc/} $parent $session $start"
  done
}
# Whether process $1 writes to the command's output.
writes() {
  for fd in 1 2; do
    if [ "/proc/$1/fd/$fd" -ef "$stdout" ] || [ "/proc/$1/fd/$fd" -ef "$stderr" ]; then
      { while read -r name value; do
        case "$name$value" in flags:*[12]) return 0 ;; esac
      done < "/proc/$1/fdinfo/$fd"; } 2>/dev/null
    fi
  done
  return 1
}
# Whether process $1 stands in the command's folder or below it.
stands() {
  [ -n "$cwd" ] || return 1
  here=$(readlink "/proc/$1/cwd" 2>/dev/null) || return 1
  case "$here/" in "$cwd"/*) return 0 ;; esac
  return 1
}
# Puts the pids that belong to the record in boot_then, stdout, stderr, cwd, pid, start_then and strays into members.
find_members() {
  members=" " orphans= proof= leader=gone
  if [ -n "$pid" ] && [ -e "/proc/$pid" ]; then
    if look "$pid"; then
      if [ "$start" = "$start_then" ]; then leader=alive; else leader=other; fi
    elif [ "$start" = "$start_then" ]; then
      proof=yes # dead and not yet reaped: its number cannot have been given out anew
    fi
  fi
  set -- $processes
  while [ $# -gt 0 ]; do
    if [ "$3" = "$pid" ] && [ $leader = alive ]; then
      members="$members$1 "
    elif case "$strays" in *" $1:$4 "*) true ;; *) false ;; esac; then
      members="$members$1 "
    elif [ "$3" = "$pid" ] && [ $leader = gone ] && [ "$4" -ge "$start_then" ]; then
      orphans="$orphans$1 "
      if [ -z "$proof" ] && { stands "$1" || writes "$1"; }; then proof=yes; fi
    elif writes "$1"; then
      members="$members$1 "
    fi
    shift 4
  done
  [ -n "$proof" ] && members="$members$orphans"
  while [ "$members" != " " ]; do # and whoever descends from those
    before=$members
    set -- $processes
    while [ $# -gt 0 ]; do
      case "$members" in *" $1 "*) ;; *" $2 "*) members="$members$1 " ;; esac
      shift 4
    done
    [ "$before" != "$members" ] || break
  done
}

if [ $# -eq 0 ]; then
  cd "$dir" || exit 1
  set -- *.run
fi
had= rounds=0
while [ $rounds -lt 200 ]; do
  survey
  left=
  for record; do
    boot_then= stdout= stderr= cwd= pid= start_then= strays=" "
    {
      IFS= read -r boot_then; IFS= read -r stdout; IFS= read -r stderr; IFS= read -r cwd; read -r pid start_then
      while read -r stray start; do strays="$strays$stray:$start "; done
    } 2>/dev/null < "$dir/$record"
    [ "$boot_then" = "$boot" ] && [ -n "$stderr" ] || continue
    [ -n "$start_then" ] || pid=
    find_members
    [ "$members" != " " ] || continue
    left=yes
    case "$had" in *"/$record/"*) ;; *) had="$had/$record/" ;; esac
    kill -KILL $members 2>/dev/null
  done
  [ -n "$left" ] || break
  sleep 0.02
  rounds=$((rounds + 1))
done
killed=0
for record; do
  case "$had" in *"/$record/"*) killed=$((killed + 1)) ;; esac
  rm -f "$dir/$record"
done
echo $killed
`;

/** Starts the watcher: it kills what the records in `dir` name when the calling process is gone, however it ended. */
export function startLifeline(dir: string, boot: string): ChildProcess {
  // In a session of its own, so that what is done to the worker's group (Ctrl-C, a shell's job control) spares it.
  return spawn("/bin/sh", ["-c", script, "sh", dir, boot], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
    cwd: "/",
  });
}

/** Kills what these records name, now. @returns how many of them still had processes. */
export function killRecorded(dir: string, boot: string, records: readonly string[]): Promise<number> {
  if (records.length === 0) return Promise.resolve(0);
  return new Promise((resolve, reject) => {
    const child = spawn("/bin/sh", ["-c", script, "sh", dir, boot, ...records], {
      stdio: ["ignore", "pipe", "ignore"],
      env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
      cwd: "/",
    });
    let said = "";
    child.stdout.setEncoding("latin1").on("data", (text: string) => said += text);
    child.on("error", reject);
    child.on("close", () => resolve(Number.parseInt(said, 10) || 0));
  });
}
