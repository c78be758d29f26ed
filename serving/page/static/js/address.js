// Site and range, as the page's own address has them: a link or a bookmark shows the same.

export function chosen(fallback) {
  const parameters = new URLSearchParams(location.search);
  return { site: parameters.get("site") ?? "", range: parameters.get("range") ?? fallback };
}

export function choose({ site, range }) {
  const parameters = new URLSearchParams();
  if (site) parameters.set("site", site);
  parameters.set("range", range);
  history.pushState(null, "", `?${parameters}`);
}
