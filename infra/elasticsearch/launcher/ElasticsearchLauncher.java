import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Starts one Elasticsearch node from the jars of Maven Central, which come without the distribution's scripts.
 * Arguments: home folder, data folder, HTTP port, transport port. Runs until it gets SIGTERM; with a fifth argument,
 * {@code end-when-started}, it ends at once after the start (the set-up's training run for quick starts).
 */
public final class ElasticsearchLauncher {
  private static final long CLOSE_TIMEOUT_SECONDS = 10;

  public static void main(String[] arguments) throws Exception {
    Path home = Path.of(arguments[0]);
    Path data = Path.of(arguments[1]);
    Settings settings = Settings.builder()
        .put("path.home", home)
        .put("path.data", data)
        .put("path.logs", data.resolve("logs"))
        .put("cluster.name", "ledgermesh")
        .put("node.name", "elasticsearch-1")
        .put("discovery.type", "single-node")
        .put("network.host", "127.0.0.1")
        .put("http.port", arguments[2])
        .put("transport.port", arguments[3])
        .put("http.type", "netty4")
        .put("transport.type", "netty4")
        // A nearly full disk of a developer's machine must not turn the indexes read-only.
        .put("cluster.routing.allocation.disk.threshold_enabled", false)
        // A typo in an index name must not become an index without our mappings.
        .put("action.auto_create_index", false)
        .build();
    Environment environment = new Environment(settings, home.resolve("config"));
    LogConfigurator.configureWithoutConfig(settings);

    // The last false: no Java module layer. With one, the plugin's classes could not see those of the class path.
    PluginsLoader plugins = PluginsLoader.createPluginsLoader(
        PluginsLoader.loadModulesBundles(environment.modulesDir(), false), Set.of(), Map.of(), false);
    Node node = new Node(environment, plugins);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        node.prepareForClose();
        node.close();
        node.awaitClose(CLOSE_TIMEOUT_SECONDS, TimeUnit.SECONDS);
      } catch (Exception error) {
        System.err.println("Elasticsearch did not close in order: " + error);
      }
    }));
    node.start();
    if (arguments.length > 4 && arguments[4].equals("end-when-started")) {
      System.exit(0);
    }
    // The node has only daemon threads: without this the process would end here.
    new CountDownLatch(1).await();
  }
}
