import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.util.Base64;

/** POSTs files as a client left to its defaults does: java Post.java URL FILE ...; prints status and body in base64. */
class Post {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient(); // HTTP_2, so the first request of a connection offers h2c
        for (int i = 0; i < arguments.length; i += 2) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[i]))
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(arguments[i + 1])))
                .build();
            HttpResponse<byte[]> answer = client.send(request, HttpResponse.BodyHandlers.ofByteArray());
            System.out.println(answer.statusCode() + " " + Base64.getEncoder().encodeToString(answer.body()));
        }
    }
}
