// Other proxies, as Debian has them, each with the configuration that its own documentation has for WebSockets.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const NGINX_TEMP = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

const RELAYS = (port) =>
  `proxy_pass http://127.0.0.1:${port}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; ` +
  'proxy_set_header Connection "upgrade"; proxy_set_header Host $http_host; proxy_read_timeout 1h;';

const proxy = (label, packages, version, write) => ({
  label,
  hint: `apt-get install ${packages}`,
  isThere: () => !spawnSync(label, [version]).error,
  version: () => {
    const { stdout, stderr } = spawnSync(label, [version], { encoding: "utf8" });
    return `${stdout}${stderr}`.match(/\d+\.\d+\.\d+/)?.[0];
  },
  /** Listens on `port`, and relays to `upstream`; everything that it writes is in `folder`. */
  command(port, folder, upstream) {
    const file = join(folder, `${label}.conf`);
    const { text, args } = write(port, folder, upstream);
    writeFileSync(file, text);
    return [label, ...args, file];
  },
});

/** As Debian has it, but for what needs root, and without an access log. Without an upstream it refuses everything. */
export const nginx = proxy("nginx", "nginx-light", "-v", (port, folder, upstream) => ({
  args: ["-e", join(folder, "error.log"), "-c"],
  text: `worker_processes 1;
daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 19000; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  ${NGINX_TEMP.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  server {
    listen 127.0.0.1:${port};
    location / { ${upstream ? RELAYS(upstream) : "return 401;"} }
  }
}
`,
}));

/** One thread, HTTP mode, no log. */
export const haproxy = proxy("haproxy", "haproxy", "-v", (port, _, upstream) => ({
  args: ["-db", "-f"],
  text: `global
  nbthread 1
  maxconn 9000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
listen front
  bind 127.0.0.1:${port}
  server back 127.0.0.1:${upstream}
`,
}));

export const caddy = proxy("caddy", "caddy", "version", (port, _, upstream) => ({
  args: ["run", "--adapter", "caddyfile", "--config"],
  text: `{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http://127.0.0.1:${port} {
  reverse_proxy 127.0.0.1:${upstream}
}
`,
}));
