# The site of servers in Perl: the same answers as answers.py gives.
use strict;
use warnings;
my $page = "<!doctype html><title>A page</title>" . "<p>text</p>" x 40;
my $changed = "Thu, 01 Jan 2026 00:00:00 GMT";
sub whole {
    my ($status, $headers, $body, $method) = @_;
    return [$status, [@$headers, "Content-Length" => length $body], $method eq "HEAD" ? [] : [$body]];
}
sub {
    my $env = shift;
    my $path = $env->{PATH_INFO};
    return whole(200, [], "thank you\n", $env->{REQUEST_METHOD}) if $path eq "/form";
    if ($path eq "/" || $path eq "/page.html") {
        return [304, ["Last-Modified" => $changed], []] if $env->{HTTP_IF_MODIFIED_SINCE};
        return whole(200, ["Last-Modified" => $changed], $page, $env->{REQUEST_METHOD});
    }
    return whole(302, ["Location" => "/page.html"], "it moved\n", $env->{REQUEST_METHOD}) if $path eq "/old.html";
    return [204, [], []] if $path eq "/empty.txt";
    return [200, [], ["first " x 50, "second " x 30, "third"]] if $path eq "/chunks";
    if ($path eq "/slow") {
        select undef, undef, undef, 0.3;
        return whole(200, [], "thank you\n", $env->{REQUEST_METHOD});
    }
    return whole(404, [], "nothing here\n", $env->{REQUEST_METHOD});
};
